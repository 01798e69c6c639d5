//! ResNet-18 and ResNet-34 (He et al. 2016, as torchvision builds them) with weights from a fixed seed: the real topology and
//! its real cost, but no trained network, because no package registry ships one. `models/reference.py` makes the same weights.

use super::{
    onnx::{Graph, Value, With},
    seeded::{spread, uniform},
};

/// Pairs of convolutions in each of four stages.
pub(super) type Depth = [u32; 4];

/// With 18 layers that have weights.
pub(super) const RESNET_18: Depth = [2, 2, 2, 2];
/// With 34.
pub(super) const RESNET_34: Depth = [3, 4, 6, 3];

/// Height and width of an image, and what comes out.
const SIDE: i64 = 224;
const CLASSES: i64 = 1000;

/// Shape of the input of a batch.
pub(super) fn input_shape(batch: usize) -> [usize; 4] {
    [batch, 3, SIDE as usize, SIDE as usize]
}

/// The same images every time: a saw tooth through all of them.
pub(super) fn images(batch: usize) -> Vec<f32> {
    let values = input_shape(batch).iter().product::<usize>();
    (0..values).map(|index| (index % 255) as f32 / 255.0 - 0.5).collect()
}

/// The model as ONNX writes it, for one size of batch.
pub(super) fn model(depth: Depth, batch: usize) -> Vec<u8> {
    let mut network = Network { graph: Graph::new("resnet") };
    let batch = batch as i64;
    let images = network.graph.floats_in("images", &[batch, 3, SIDE, SIDE]);
    let mut value = network.convolution(&images, "conv1", [64, 3, 7, 7], 2, 3);
    value = network.normalisation(&value, "bn1", 64);
    value = network.graph.node("Relu", &[&value], &[]);
    value = network.graph.node(
        "MaxPool",
        &[&value],
        &[
            With::Integers("kernel_shape", &[3, 3]),
            With::Integers("strides", &[2, 2]),
            With::Integers("pads", &[1, 1, 1, 1]),
        ],
    );
    let mut channels = 64;
    for (layer, (width, blocks)) in [64, 128, 256, 512].into_iter().zip(depth).enumerate() {
        for block in 0..blocks {
            let stride = if layer > 0 && block == 0 { 2 } else { 1 };
            value = network.block(&value, &format!("layer{}.{block}", layer + 1), channels, width, stride);
            channels = width;
        }
    }
    value = network.graph.node("GlobalAveragePool", &[&value], &[]);
    value = network.graph.node("Flatten", &[&value], &[With::Integer("axis", 1)]);
    let weight = network.weight("fc.weight", &[CLASSES, 512], spread(512));
    let bias = network.weight("fc.bias", &[CLASSES], (0.1, 0.0));
    value = network.graph.node("Gemm", &[&value, &weight, &bias], &[With::Integer("transB", 1)]);
    network.graph.finish(&value, &[batch, CLASSES])
}

struct Network {
    graph: Graph,
}

impl Network {
    /// Two convolutions beside a short cut.
    fn block(&mut self, input: &Value, name: &str, channels: i64, width: i64, stride: i64) -> Value {
        let mut value = self.convolution(input, &format!("{name}.conv1"), [width, channels, 3, 3], stride, 1);
        value = self.normalisation(&value, &format!("{name}.bn1"), width);
        value = self.graph.node("Relu", &[&value], &[]);
        value = self.convolution(&value, &format!("{name}.conv2"), [width, width, 3, 3], 1, 1);
        value = self.normalisation(&value, &format!("{name}.bn2"), width);
        let short = if channels == width {
            input.clone()
        } else {
            let short = self.convolution(input, &format!("{name}.downsample.0"), [width, channels, 1, 1], stride, 0);
            self.normalisation(&short, &format!("{name}.downsample.1"), width)
        };
        value = self.graph.node("Add", &[&value, &short], &[]);
        self.graph.node("Relu", &[&value], &[])
    }

    fn convolution(&mut self, input: &Value, name: &str, shape: [i64; 4], stride: i64, pad: i64) -> Value {
        let weight = self.weight(&format!("{name}.weight"), &shape, spread(shape[1] * shape[2] * shape[3]));
        let attributes = [
            With::Integers("kernel_shape", &shape[2..]),
            With::Integers("strides", &[stride; 2]),
            With::Integers("pads", &[pad; 4]),
        ];
        self.graph.node("Conv", &[input, &weight], &attributes)
    }

    fn normalisation(&mut self, input: &Value, name: &str, channels: i64) -> Value {
        let mut of = |what, range| self.weight(&format!("{name}.{what}"), &[channels], range);
        let weights = [
            of("weight", (0.25, 1.0)),
            of("bias", (0.1, 0.0)),
            of("running_mean", (0.1, 0.0)),
            of("running_var", (0.25, 1.0)),
        ];
        let [scale, bias, mean, variance] = &weights;
        self.graph.node("BatchNormalization", &[input, scale, bias, mean, variance], &[With::Float("epsilon", 1e-5)])
    }

    /// Values from `middle − half` to `middle + half`, which the name alone determines.
    fn weight(&mut self, name: &str, shape: &[i64], (half, middle): (f32, f32)) -> Value {
        let values: Vec<f32> =
            uniform(name, shape.iter().product::<i64>() as u64).map(|value| value * half + middle).collect();
        self.graph.weight(name, shape, &values)
    }
}
