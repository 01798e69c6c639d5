// Adds 1 to each of `count` 32-bit words.
kernel void increment(global uint *words, uint count) {
    uint index = get_global_id(0);
    if (index < count)
        words[index] += 1;
}
