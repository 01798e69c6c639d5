//! Transformers that embed sentences: MiniLM-L6 (Wang et al. 2020; all-MiniLM-L6-v2) with its real weights and its tokeniser,
//! and one of twice its width, of `DistilBERT`'s shape (Sanh et al. 2019), with weights from a fixed seed. Sentences become
//! vectors of length 1, whose products say how near two meanings are.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use tokenizers::{PaddingParams, Tokenizer};

use super::{
    InferError,
    onnx::{Graph, Value, With},
    seeded::{spread, uniform},
};

const LAYERS: usize = 6;
const HEADS: i64 = 12;
/// Width of MiniLM.
pub(super) const NARROW: i64 = 384;
/// Width of the other one.
pub(super) const WIDE: i64 = 768;
/// The inner layers are so much wider.
const INNER: i64 = 4;
/// Rows of the tables of words and places.
const WORDS: i64 = 30_522;
const PLACES: usize = 512;
/// Of the layers that normalise, as the model's configuration says.
const EPSILON: f32 = 1e-12;

/// What is embedded; batches go through it again and again. The first three are those of the reference.
const SENTENCES: [&str; 8] = [
    "The GPU driver issues ioctl system calls.",
    "A kernel module forwards ioctl requests to the GPU.",
    "Bananas are yellow.",
    "How often does a training job ask the operating system for memory?",
    "A scheduler decides which process runs next.",
    "The queue of the device is in the memory of the program.",
    "It rained all day in the mountains.",
    "Every launch of a kernel is a store to a doorbell page.",
];

/// A batch of sentences as numbers, all of the length of the longest.
pub(super) struct Tokens {
    pub(super) ids: Vec<i64>,
    /// 1 where there is a token, 0 where there is none.
    pub(super) mask: Vec<f32>,
    pub(super) batch: usize,
    pub(super) length: usize,
}

/// Turns so many sentences into tokens.
pub(super) fn tokens(folder: &Path, batch: usize) -> Result<Tokens, InferError> {
    let file = folder.join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(&file).map_err(|error| InferError::file(&file, error))?;
    tokenizer.with_padding(Some(PaddingParams::default()));
    let sentences: Vec<_> = SENTENCES.iter().copied().cycle().take(batch).collect();
    let encoded = tokenizer.encode_batch(sentences, true).map_err(|error| InferError::file(&file, error))?;
    let length = encoded.first().map_or(0, tokenizers::Encoding::len);
    Ok(Tokens {
        ids: encoded.iter().flat_map(|encoding| encoding.get_ids().iter().map(|id| i64::from(*id))).collect(),
        mask: encoded.iter().flat_map(|encoding| encoding.get_attention_mask().iter().map(|one| *one as f32)).collect(),
        batch,
        length,
    })
}

/// MiniLM as ONNX writes it, for tokens of one shape.
pub(super) fn model(folder: &Path, tokens: &Tokens) -> Result<Vec<u8>, InferError> {
    let file = folder.join("model.safetensors");
    let bytes = std::fs::read(&file).map_err(|error| InferError::file(&file, error))?;
    let weights = SafeTensors::deserialize(&bytes).map_err(|error| InferError::file(&file, error))?;
    encode(Weights::Trained { weights, file: &file }, NARROW, tokens)
}

/// The wide one.
pub(super) fn wide_model(tokens: &Tokens) -> Result<Vec<u8>, InferError> {
    encode(Weights::Seeded, WIDE, tokens)
}

fn encode(weights: Weights<'_>, hidden: i64, tokens: &Tokens) -> Result<Vec<u8>, InferError> {
    let (batch, length) = (tokens.batch as i64, tokens.length as i64);
    let mut encoder = Encoder { graph: Graph::new("encoder"), weights, hidden, batch, length };
    let value = encoder.encode()?;
    Ok(encoder.graph.finish(&value, &[batch, hidden]))
}

enum Weights<'a> {
    Trained { weights: SafeTensors<'a>, file: &'a Path },
    Seeded,
}

struct Encoder<'a> {
    graph: Graph,
    weights: Weights<'a>,
    /// Width: numbers of a token.
    hidden: i64,
    batch: i64,
    /// Tokens of a sentence.
    length: i64,
}

impl Encoder<'_> {
    /// Tokens are rows of `hidden` numbers throughout, those of a sentence one after the other.
    fn encode(&mut self) -> Result<Value, InferError> {
        let (rows, hidden) = (self.batch * self.length, self.hidden);
        let ids = self.graph.integers_in("ids", &[rows]);
        let mask = self.graph.floats_in("mask", &[self.batch, self.length]);
        let mut value = self.embed(&ids)?;
        let unseen = self.unseen(&mask);
        for layer in 0..LAYERS {
            let name = format!("encoder.layer.{layer}");
            let seen = self.attention(&value, &unseen, &format!("{name}.attention"))?;
            value = self.graph.node("Add", &[&value, &seen], &[]);
            value = self.normalisation(&value, &format!("{name}.attention.output.LayerNorm"))?;
            let mut inner = self.linear(&value, &format!("{name}.intermediate.dense"), [INNER * hidden, hidden])?;
            inner = self.gelu(&inner);
            inner = self.linear(&inner, &format!("{name}.output.dense"), [hidden, INNER * hidden])?;
            value = self.graph.node("Add", &[&value, &inner], &[]);
            value = self.normalisation(&value, &format!("{name}.output.LayerNorm"))?;
        }
        Ok(self.mean(&value, &mask))
    }

    /// Of the word, of its place in the sentence, and of the only sentence that there is.
    fn embed(&mut self, ids: &Value) -> Result<Value, InferError> {
        let width = self.hidden;
        let words = self.weight("embeddings.word_embeddings.weight", &[WORDS, width])?;
        let word = self.graph.node("Gather", &[&words, ids], &[With::Integer("axis", 0)]);
        let places = self.values("embeddings.position_embeddings.weight", &[PLACES as i64, width])?;
        let kinds = self.values("embeddings.token_type_embeddings.weight", &[2, width])?;
        let hidden = width as usize;
        let place: Vec<f32> = (0..self.batch)
            .flat_map(|_| &places[..self.length as usize * hidden])
            .zip(kinds[..hidden].iter().cycle())
            .map(|(place, kind)| place + kind)
            .collect();
        let place = self.graph.weight("places", &[self.batch * self.length, width], &place);
        let sum = self.graph.node("Add", &[&word, &place], &[]);
        self.normalisation(&sum, "embeddings.LayerNorm")
    }

    /// What is added to a score so that a token which is none weighs nothing.
    fn unseen(&mut self, mask: &Value) -> Value {
        let (one, much) = (self.graph.number(1.0), self.graph.number(-1e9));
        let absent = self.graph.node("Sub", &[&one, mask], &[]);
        let unseen = self.graph.node("Mul", &[&absent, &much], &[]);
        let shape = self.graph.integers(&[self.batch, 1, 1, self.length]);
        self.graph.node("Reshape", &[&unseen, &shape], &[])
    }

    fn attention(&mut self, input: &Value, unseen: &Value, name: &str) -> Result<Value, InferError> {
        let (hidden, wide) = (self.hidden, self.hidden / HEADS);
        let split = self.graph.integers(&[self.batch, self.length, HEADS, wide]);
        let mut of = |what: &str, order: [i64; 4]| -> Result<Value, InferError> {
            let value = self.linear(input, &format!("{name}.self.{what}"), [hidden, hidden])?;
            let value = self.graph.node("Reshape", &[&value, &split], &[]);
            Ok(self.graph.node("Transpose", &[&value], &[With::Integers("perm", &order)]))
        };
        let query = of("query", [0, 2, 1, 3])?;
        let key = of("key", [0, 2, 3, 1])?;
        let value = of("value", [0, 2, 1, 3])?;
        let scale = self.graph.number(1.0 / (wide as f32).sqrt());
        let mut scores = self.graph.node("MatMul", &[&query, &key], &[]);
        scores = self.graph.node("Mul", &[&scores, &scale], &[]);
        scores = self.graph.node("Add", &[&scores, unseen], &[]);
        scores = self.graph.node("Softmax", &[&scores], &[With::Integer("axis", -1)]);
        let seen = self.graph.node("MatMul", &[&scores, &value], &[]);
        let seen = self.graph.node("Transpose", &[&seen], &[With::Integers("perm", &[0, 2, 1, 3])]);
        let joined = self.graph.integers(&[self.batch * self.length, hidden]);
        let seen = self.graph.node("Reshape", &[&seen, &joined], &[]);
        self.linear(&seen, &format!("{name}.output.dense"), [hidden, hidden])
    }

    /// x · ½ · (1 + erf(x / √2)).
    fn gelu(&mut self, input: &Value) -> Value {
        let (root, one, half) =
            (self.graph.number(std::f32::consts::SQRT_2), self.graph.number(1.0), self.graph.number(0.5));
        let mut value = self.graph.node("Div", &[input, &root], &[]);
        value = self.graph.node("Erf", &[&value], &[]);
        value = self.graph.node("Add", &[&value, &one], &[]);
        value = self.graph.node("Mul", &[input, &value], &[]);
        self.graph.node("Mul", &[&value, &half], &[])
    }

    fn linear(&mut self, input: &Value, name: &str, shape: [i64; 2]) -> Result<Value, InferError> {
        let weight = self.weight(&format!("{name}.weight"), &shape)?;
        let bias = self.weight(&format!("{name}.bias"), &shape[..1])?;
        Ok(self.graph.node("Gemm", &[input, &weight, &bias], &[With::Integer("transB", 1)]))
    }

    fn normalisation(&mut self, input: &Value, name: &str) -> Result<Value, InferError> {
        let weight = self.weight(&format!("{name}.weight"), &[self.hidden])?;
        let bias = self.weight(&format!("{name}.bias"), &[self.hidden])?;
        let attributes = [With::Integer("axis", -1), With::Float("epsilon", EPSILON)];
        Ok(self.graph.node("LayerNormalization", &[input, &weight, &bias], &attributes))
    }

    /// The mean of a sentence's tokens, those that are none left out, as a vector of length 1.
    fn mean(&mut self, tokens: &Value, mask: &Value) -> Value {
        let sentences = self.graph.integers(&[self.batch, self.length, self.hidden]);
        let tokens = self.graph.node("Reshape", &[tokens, &sentences], &[]);
        // A product of matrices sums over the tokens.
        let row = self.graph.integers(&[self.batch, 1, self.length]);
        let row = self.graph.node("Reshape", &[mask, &row], &[]);
        let sum = self.graph.node("MatMul", &[&row, &tokens], &[]);
        let flat = self.graph.integers(&[self.batch, self.hidden]);
        let sum = self.graph.node("Reshape", &[&sum, &flat], &[]);
        // Dividing by the number of tokens would not change the direction.
        self.graph.node("LpNormalization", &[&sum], &[With::Integer("axis", 1), With::Integer("p", 2)])
    }

    fn weight(&mut self, name: &str, shape: &[i64]) -> Result<Value, InferError> {
        let values = self.values(name, shape)?;
        Ok(self.graph.weight(name, shape, &values))
    }

    fn values(&self, name: &str, shape: &[i64]) -> Result<Vec<f32>, InferError> {
        let Weights::Trained { weights, file } = &self.weights else {
            let (half, middle) = match shape {
                [_] if name.ends_with("weight") => (0.25, 1.0),
                [_, inputs] => spread(*inputs),
                _ => (0.1, 0.0),
            };
            let values = uniform(name, shape.iter().product::<i64>() as u64);
            return Ok(values.map(|value| value * half + middle).collect());
        };
        let tensor = weights.tensor(name).map_err(|error| InferError::file(file, error))?;
        let there: Vec<_> = tensor.shape().iter().map(|size| *size as i64).collect();
        if tensor.dtype() != Dtype::F32 || there != shape {
            return Err(InferError::file(file, format!("`{name}` is no array of floats {shape:?}")));
        }
        let (words, _) = tensor.data().as_chunks::<4>();
        Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
    }
}
