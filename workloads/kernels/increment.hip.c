// Adds `amount` to each of `count` 32-bit words, and takes `ticks` of the device's steady clock at
// least. One plain C file that clang compiles for every GPU without AMD's device libraries; the
// number of threads of a block is an argument because there is no runtime to ask.
typedef unsigned int u32;
typedef unsigned long u64;

__attribute__((amdgpu_kernel, visibility("protected"))) void
increment(__attribute__((address_space(1))) u32 *words, u32 count, u32 amount, u32 threads, u32 ticks) {
    u64 start = __builtin_readsteadycounter();
    u32 index = __builtin_amdgcn_workgroup_id_x() * threads + __builtin_amdgcn_workitem_id_x();
    if (index < count)
        words[index] += amount;
    // The first thread of all waits; the kernel ends when it does.
    if (index == 0)
        while (__builtin_readsteadycounter() - start < ticks)
            __builtin_amdgcn_s_sleep(1);
}
