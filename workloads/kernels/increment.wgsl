// Adds `amount` to each of `count` 32-bit words. A dispatch has at most 65,535 workgroups in one
// dimension, so the array is laid out over two.
struct Arguments { count: u32, amount: u32, row: u32 }
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<uniform> arguments: Arguments;

@compute @workgroup_size(256)
fn increment(@builtin(global_invocation_id) id: vec3<u32>) {
    let index = id.y * arguments.row + id.x;
    if (index < arguments.count) {
        words[index] = words[index] + arguments.amount;
    }
}
