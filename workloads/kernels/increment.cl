// Adds `amount` to each of `count` 32-bit words.
kernel void increment(global uint *words, uint count, uint amount) {
    uint index = get_global_id(0);
    if (index < count)
        words[index] += amount;
}
