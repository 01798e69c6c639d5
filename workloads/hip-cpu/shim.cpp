// AMD's header-only HIP for CPUs (the project ROCm/HIP-CPU) behind the entry points of libamdhip64 that `bench` calls,
// so that its backend `hip` drives both. `cargo xtask hip-cpu` builds it; nothing of HIP-CPU is in this repository.
//
// Each function has a name of its own here, since HIP-CPU's functions of the same names are C++, and gets HIP's name as
// its symbol. What HIP-CPU does not have answers hipErrorNotSupported.

#include <hip/hip_runtime.h>

#include <chrono>
#include <cstdint>
#include <cstring>

#define ENTRY(name, parameters)                                                                                        \
    extern "C" __attribute__((visibility("default"))) int shim_##name parameters __asm__(#name);                       \
    int shim_##name parameters
#define ABSENT(name)                                                                                                   \
    ENTRY(name, ()) { return not_supported; }

namespace {
constexpr int not_supported = 801;
/// hipDeviceAttributeWallClockRate, in kHz: the clock of the kernel below counts nanoseconds.
constexpr int wall_clock_rate = 10017;
/// What stands for the module and the function: there is one kernel, and it is compiled in.
int the_module, the_function;

std::uint64_t now() {
    return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

__global__ void increment(std::uint32_t *words, std::uint32_t count, std::uint32_t amount, std::uint32_t ticks) {
    const std::uint64_t start = now();
    const std::uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < count)
        words[index] += amount;
    // The first thread of all waits; the kernel ends when it does.
    if (index == 0)
        while (now() - start < ticks) {
        }
}
} // namespace

ENTRY(hipInit, (unsigned flags)) { return hipInit(flags); }

ENTRY(hipRuntimeGetVersion, (int *version)) { return hipRuntimeGetVersion(version); }

ENTRY(hipGetDeviceCount, (int *count)) { return hipGetDeviceCount(count); }

ENTRY(hipSetDevice, (int device)) { return hipSetDevice(device); }

ENTRY(hipDeviceGetName, (char *name, int length, int device)) {
    hipDeviceProp_t properties{};
    const int error = hipGetDeviceProperties(&properties, device);
    if (error == 0 && length > 0) {
        std::strncpy(name, properties.name, length - 1);
        name[length - 1] = 0;
    }
    return error;
}

ENTRY(hipDeviceGetAttribute, (int *value, int attribute, int)) {
    if (attribute != wall_clock_rate)
        return not_supported;
    *value = 1000000;
    return 0;
}

ENTRY(hipMalloc, (void **address, std::size_t bytes)) {
    const int error = hipMalloc(address, bytes);
    return error == 0 && bytes > 0 && *address == nullptr ? int{hipErrorOutOfMemory} : error;
}

ENTRY(hipFree, (void *address)) { return hipFree(address); }

ENTRY(hipHostMalloc, (void **address, std::size_t bytes, unsigned)) { return hipHostMalloc(address, bytes); }

ENTRY(hipHostFree, (void *address)) { return hipHostFree(address); }

ENTRY(hipMemcpyAsync, (void *to, const void *from, std::size_t bytes, int kind, void *stream)) {
    return hipMemcpyAsync(to, from, bytes, static_cast<hipMemcpyKind>(kind), static_cast<hipStream_t>(stream));
}

ENTRY(hipMemsetAsync, (void *to, int value, std::size_t bytes, void *stream)) {
    return hipMemsetAsync(to, value, bytes, static_cast<hipStream_t>(stream));
}

ENTRY(hipStreamCreateWithFlags, (void **stream, unsigned flags)) {
    return hipStreamCreateWithFlags(reinterpret_cast<hipStream_t *>(stream), static_cast<hipStreamFlags>(flags));
}

ENTRY(hipStreamSynchronize, (void *stream)) { return hipStreamSynchronize(static_cast<hipStream_t>(stream)); }

ENTRY(hipStreamQuery, (void *stream)) { return hipStreamQuery(static_cast<hipStream_t>(stream)); }

ENTRY(hipEventCreateWithFlags, (void **event, unsigned flags)) {
    return hipEventCreateWithFlags(reinterpret_cast<hipEvent_t *>(event), static_cast<hipEventFlags>(flags));
}

ENTRY(hipEventRecord, (void *event, void *stream)) {
    return hipEventRecord(static_cast<hipEvent_t>(event), static_cast<hipStream_t>(stream));
}

ENTRY(hipEventSynchronize, (void *event)) { return hipEventSynchronize(static_cast<hipEvent_t>(event)); }

ENTRY(hipEventDestroy, (void *event)) { return hipEventDestroy(static_cast<hipEvent_t>(event)); }

ENTRY(hipModuleLoadData, (void **module, const void *image)) {
    *module = &the_module;
    return std::strcmp(static_cast<const char *>(image), "increment") == 0 ? 0 : int{hipErrorInvalidImage};
}

ENTRY(hipModuleGetFunction, (void **function, void *module, const char *name)) {
    *function = &the_function;
    const bool known = module == &the_module && std::strcmp(name, "increment") == 0;
    return known ? 0 : int{hipErrorInvalidDeviceFunction};
}

ENTRY(hipModuleLaunchKernel,
      (void *function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned,
       void *stream, void **arguments, void **)) {
    if (function != &the_function)
        return hipErrorInvalidDeviceFunction;
    auto *const words = *static_cast<std::uint32_t **>(arguments[0]);
    const auto word = [arguments](int number) { return *static_cast<std::uint32_t *>(arguments[number]); };
    // Threads of a block are an argument of the kernel that GPUs get; here it can ask.
    const std::uint32_t count = word(1), amount = word(2), ticks = word(4);
    hipLaunchKernelGGL(increment, dim3(blocks), dim3(threads), 0, static_cast<hipStream_t>(stream), words, count, amount,
                       ticks);
    return hipGetLastError();
}

ABSENT(hipSetDeviceFlags)
ABSENT(hipMallocManaged)
ABSENT(hipMallocAsync)
ABSENT(hipFreeAsync)
ABSENT(hipStreamBeginCapture)
ABSENT(hipStreamEndCapture)
ABSENT(hipGraphInstantiate)
ABSENT(hipGraphDestroy)
ABSENT(hipGraphLaunch)

extern "C" __attribute__((visibility("default"))) const char *shim_hipGetErrorName(int error) __asm__("hipGetErrorName");
const char *shim_hipGetErrorName(int error) {
    switch (error) {
    case 0: return "hipSuccess";
    case 2: return "hipErrorOutOfMemory";
    case 100: return "hipErrorNoDevice";
    case not_supported: return "hipErrorNotSupported";
    default: return "hipError of HIP-CPU (hip_enums.h has the numbers)";
    }
}
