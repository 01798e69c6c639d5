//! Models as ONNX writes them: as much of its protobuf messages as the models here need (field numbers of onnx.proto),
//! and a graph that is built node by node.

use prost::Message;

/// Version of the file format, and of the operators: both of ONNX 1.12, which ONNX Runtime reads since 1.12.
const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;
/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphMessage>,
    #[prost(message, repeated, tag = "8")]
    operator_sets: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphMessage {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    float: f32,
    #[prost(int64, tag = "3")]
    integer: i64,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    integers: Vec<i64>,
    /// 1 a float, 2 an integer, 7 integers.
    #[prost(int32, tag = "20")]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

/// A value of the graph: what a node made, an input or a weight.
#[derive(Clone, Debug)]
pub(super) struct Value(String);

/// A graph under construction.
#[derive(Default)]
pub(super) struct Graph {
    message: GraphMessage,
}

/// An attribute of an operator.
pub(super) enum With<'a> {
    Float(&'static str, f32),
    Integer(&'static str, i64),
    Integers(&'static str, &'a [i64]),
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Self { message: GraphMessage { name: name.to_owned(), ..GraphMessage::default() } }
    }

    /// An input of 32-bit floats.
    pub(super) fn floats_in(&mut self, name: &str, shape: &[i64]) -> Value {
        self.input(name, FLOAT, shape)
    }

    /// An input of 64-bit integers.
    pub(super) fn integers_in(&mut self, name: &str, shape: &[i64]) -> Value {
        self.input(name, INT64, shape)
    }

    fn input(&mut self, name: &str, kind: i32, shape: &[i64]) -> Value {
        self.message.inputs.push(info(name, kind, shape));
        Value(name.to_owned())
    }

    /// A weight: as many values as the shape says, in rows.
    pub(super) fn weight(&mut self, name: &str, shape: &[i64], values: &[f32]) -> Value {
        debug_assert_eq!(shape.iter().product::<i64>(), values.len() as i64, "{name}");
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, FLOAT, shape, raw)
    }

    /// A constant list of integers, such as a shape.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let name = format!("integers_{}", self.message.initializers.len());
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, INT64, &[values.len() as i64], raw)
    }

    /// A constant number.
    pub(super) fn number(&mut self, value: f32) -> Value {
        let name = format!("number_{}", self.message.initializers.len());
        self.weight(&name, &[], &[value])
    }

    fn initializer(&mut self, name: &str, kind: i32, shape: &[i64], raw: Vec<u8>) -> Value {
        self.message.initializers.push(Tensor { shape: shape.to_vec(), kind, name: name.to_owned(), raw });
        Value(name.to_owned())
    }

    /// A node with one output.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&Value], attributes: &[With<'_>]) -> Value {
        let output = format!("{}_{}", operator.to_lowercase(), self.message.nodes.len());
        self.message.nodes.push(Node {
            inputs: inputs.iter().map(|value| value.0.clone()).collect(),
            outputs: vec![output.clone()],
            name: output.clone(),
            operator: operator.to_owned(),
            attributes: attributes.iter().map(attribute).collect(),
        });
        Value(output)
    }

    /// The bytes of a model whose only output is this, of 32-bit floats.
    pub(super) fn finish(mut self, output: &Value, shape: &[i64]) -> Vec<u8> {
        self.message.outputs.push(info(&output.0, FLOAT, shape));
        let operator_sets = vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }];
        let producer_name = "gpuos-workloads".to_owned();
        Model { ir_version: IR_VERSION, producer_name, graph: Some(self.message), operator_sets }.encode_to_vec()
    }
}

fn info(name: &str, kind: i32, shape: &[i64]) -> ValueInfo {
    let shape = Shape { dimensions: shape.iter().map(|size| Dimension { size: *size }).collect() };
    let tensor = Some(TensorType { kind, shape: Some(shape) });
    ValueInfo { name: name.to_owned(), kind: Some(Type { tensor }) }
}

fn attribute(with: &With<'_>) -> Attribute {
    match with {
        With::Float(name, float) => {
            Attribute { name: (*name).to_owned(), float: *float, kind: 1, ..Attribute::default() }
        }
        With::Integer(name, integer) => {
            Attribute { name: (*name).to_owned(), integer: *integer, kind: 2, ..Attribute::default() }
        }
        With::Integers(name, integers) => {
            Attribute { name: (*name).to_owned(), integers: integers.to_vec(), kind: 7, ..Attribute::default() }
        }
    }
}
