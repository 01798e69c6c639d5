//! `bench infer`: real models on ONNX Runtime, which is loaded at run time and executes them on the CPU or on GPUs.

mod encoder;
mod onnx;
mod resnet;
mod seeded;

use std::{
    error::Error as _,
    ffi::{CStr, c_char, c_void},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::ValueEnum;
use gpuos_model::{Usage, bench::Percentiles, phase};
use ort::{
    ep::{self, ExecutionProviderDispatch},
    session::{Session, SessionOutputs},
    value::TensorRef,
};
use serde::Serialize;

use crate::measure::{Latencies, usage_now};

/// Names a library of ONNX Runtime; the variable is ort's own.
const LIBRARY: &str = "ORT_DYLIB_PATH";
/// Names the folder that `cargo xtask models` filled.
const MODELS: &str = "GPUOS_MODELS";

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelChoice {
    /// A small transformer that embeds sentences, its real weights (22 million)
    Minilm,
    /// A convolutional network on images of 224 × 224, weights from a fixed seed (11 million)
    Resnet18,
    /// The same, deeper (21 million)
    Resnet34,
    /// The same transformer, twice as wide, weights from a fixed seed (66 million)
    Distilbert,
}

/// Who executes the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Provider {
    /// The CPU
    Cpu,
    /// CUDA and cuDNN
    Cuda,
    /// ROCm
    Rocm,
    /// AMD's `MIGraphX`
    Migraphx,
}

impl Provider {
    /// As its makers write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
            Self::Rocm => "ROCm",
            Self::Migraphx => "MIGraphX",
        }
    }
}

/// What is asked of `bench infer`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Inference {
    pub(crate) model: ModelChoice,
    pub(crate) provider: Provider,
    /// Items of one inference.
    pub(crate) batch: usize,
    pub(crate) iters: u64,
    pub(crate) warmup: u64,
    /// Of the runtime's pool; 0 leaves the number to it.
    pub(crate) threads: usize,
}

/// What it came to.
#[derive(Debug, Serialize)]
pub(crate) struct Inferred {
    #[serde(flatten)]
    pub(crate) inference: Inference,
    /// The library, and what it says that it is.
    pub(crate) library: String,
    pub(crate) runtime: String,
    /// From the start until the model can be run.
    pub(crate) load_ns: u64,
    /// The first inference, which is none of the others.
    pub(crate) first_ns: u64,
    /// Absent when nothing was timed.
    pub(crate) latency: Option<Percentiles>,
    pub(crate) items_per_second: Option<f64>,
    pub(crate) wall_ns: u64,
    pub(crate) usage: Usage,
    /// How far any value of the first item is from PyTorch's.
    pub(crate) error: f32,
}

/// Why a model could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InferError {
    #[error(
        "no ONNX Runtime: {0}\nhint: `cargo xtask models` fetches one and the weights, or set ORT_DYLIB_PATH to a libonnxruntime.so"
    )]
    NoRuntime(String),
    #[error(
        "no models: there is no {0}\nhint: `cargo xtask models` fetches them, or set GPUOS_MODELS to the folder that it filled"
    )]
    NoModels(String),
    #[error("cannot use {0}: {1}\nhint: `cargo xtask models` fetches it again")]
    File(PathBuf, String),
    #[error("ONNX Runtime: {0}")]
    Runtime(String),
    #[error(
        "ONNX Runtime cannot execute on {0}: {1}\nhint: set ORT_DYLIB_PATH to a libonnxruntime.so that was built for it (PyPI's `onnxruntime-gpu` for CUDA, AMD's `onnxruntime-rocm`)"
    )]
    Provider(&'static str, String),
    #[error("wrong result: a value is {0} away from PyTorch's, more than {1}")]
    WrongResult(f32, f32),
    #[error("wrong result: not a number")]
    NotANumber,
}

impl InferError {
    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
    fn file(path: &Path, error: impl ToString) -> Self {
        Self::File(path.to_owned(), error.to_string())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn runtime<T>(error: ort::Error<T>) -> InferError {
    InferError::Runtime(first_line(&error.to_string()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Where `cargo xtask models` puts what it fetches: `target/models`, as seen from `target/release/bench`.
fn models() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(MODELS) {
        return Some(named.into());
    }
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    [folder.join("models"), folder.parent()?.join("models")].into_iter().find(|models| models.is_dir())
}

/// The library that is named, else the one of `cargo xtask models`, else the system's.
fn library() -> PathBuf {
    if let Some(named) = std::env::var_os(LIBRARY) {
        return named.into();
    }
    let fetched = models().map(|models| models.join("libonnxruntime.so")).filter(|library| library.exists());
    fetched.unwrap_or_else(|| "libonnxruntime.so".into())
}

/// A session with its inputs.
struct Loaded {
    session: Session,
    inputs: Inputs,
}

enum Inputs {
    Images { shape: [usize; 4], values: Vec<f32> },
    Tokens(encoder::Tokens),
}

impl Loaded {
    /// One inference. The input stays where it is, so that nothing but the runtime allocates.
    fn infer(&mut self) -> Result<SessionOutputs<'_>, InferError> {
        match &self.inputs {
            Inputs::Images { shape, values } => {
                let images = TensorRef::from_array_view((*shape, values.as_slice())).map_err(runtime)?;
                self.session.run(ort::inputs!["images" => images]).map_err(runtime)
            }
            Inputs::Tokens(tokens) => {
                let ids = TensorRef::from_array_view(([tokens.ids.len()], tokens.ids.as_slice())).map_err(runtime)?;
                let mask = TensorRef::from_array_view(([tokens.batch, tokens.length], tokens.mask.as_slice()));
                self.session.run(ort::inputs!["ids" => ids, "mask" => mask.map_err(runtime)?]).map_err(runtime)
            }
        }
    }
}

fn load(inference: &Inference, environment: &ort::environment::Environment) -> Result<Loaded, InferError> {
    let batch = inference.batch;
    let (model, inputs) = match inference.model {
        ModelChoice::Resnet18 | ModelChoice::Resnet34 => {
            let is_deep = inference.model == ModelChoice::Resnet34;
            let depth = if is_deep { resnet::RESNET_34 } else { resnet::RESNET_18 };
            let inputs = Inputs::Images { shape: resnet::input_shape(batch), values: resnet::images(batch) };
            (resnet::model(depth, batch), inputs)
        }
        ModelChoice::Minilm | ModelChoice::Distilbert => {
            let folder = models().map(|models| models.join("minilm"));
            let named = folder.as_ref().map(|folder| format!("folder `{}`", folder.display()));
            let folder = folder.filter(|folder| folder.is_dir()).ok_or_else(|| {
                let beside = || "folder `models/minilm` beside or above this program".to_owned();
                InferError::NoModels(named.unwrap_or_else(beside))
            })?;
            let tokens = encoder::tokens(&folder, batch)?;
            let is_wide = inference.model == ModelChoice::Distilbert;
            let model = if is_wide { encoder::wide_model(&tokens)? } else { encoder::model(&folder, &tokens)? };
            (model, Inputs::Tokens(tokens))
        }
    };
    let mut builder = Session::builder(environment).map_err(runtime)?;
    if inference.threads > 0 {
        builder = builder.with_intra_threads(inference.threads).map_err(runtime)?;
    }
    if let Some(provider) = provider(inference.provider) {
        let name = inference.provider.name();
        builder = builder
            .with_execution_providers([provider])
            .map_err(|error| InferError::Provider(name, first_line(&error.to_string())))?;
    }
    let session = builder.commit_from_memory(&model).map_err(runtime)?;
    Ok(Loaded { session, inputs })
}

/// What is there or an error, never the CPU in its place.
fn provider(provider: Provider) -> Option<ExecutionProviderDispatch> {
    Some(match provider {
        Provider::Cpu => return None,
        // With TF32, ONNX Runtime's own default, results are 1e-3 away from the reference.
        Provider::Cuda => ep::CUDA::default().with_tf32(false).build().error_on_failure(),
        Provider::Rocm => ep::ROCm::default().build().error_on_failure(),
        Provider::Migraphx => ep::MIGraphX::default().build().error_on_failure(),
    })
}

/// Loads, warms up and infers; each is a phase.
pub(crate) fn run(inference: &Inference) -> Result<Inferred, InferError> {
    // Otherwise the runtime opens a database and starts a thread when it is loaded, before it can be told not to.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    gpuos_phase::switch(phase::LOAD);
    let start = Instant::now();
    let library = library();
    let no_runtime = |error: ort::LoadDynamicError| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        InferError::NoRuntime(format!("{}: {}", library.display(), first_line(&why)))
    };
    let version = version(&library).map_err(|why| InferError::NoRuntime(format!("{}: {why}", library.display())))?;
    let environment = ort::init_from(&library).map_err(no_runtime)?.with_telemetry(false).build().map_err(runtime)?;
    let mut loaded = load(inference, &environment)?;
    let load_ns = start.elapsed().as_nanos() as u64;

    gpuos_phase::switch(phase::WARMUP);
    let start = Instant::now();
    let first = loaded.infer()?;
    let first_ns = start.elapsed().as_nanos() as u64;
    let error = compare(inference.model, first[0].try_extract_tensor::<f32>().map_err(runtime)?.1)?;
    drop(first);
    for _ in 0..inference.warmup {
        loaded.infer()?;
    }

    let mut latencies = Latencies::new();
    let before = usage_now();
    gpuos_phase::switch(phase::INFER);
    let start = Instant::now();
    for _ in 0..inference.iters {
        latencies.time(|| loaded.infer().map(drop))?;
    }
    let wall_ns = start.elapsed().as_nanos() as u64;
    gpuos_phase::iterations(inference.iters);
    gpuos_phase::switch(phase::TEARDOWN);
    let usage = usage_now().since(before);
    let items = inference.iters as f64 * inference.batch as f64;
    Ok(Inferred {
        inference: inference.clone(),
        library: library.display().to_string(),
        runtime: format!("ONNX Runtime {version}"),
        load_ns,
        first_ns,
        latency: latencies.percentiles(),
        items_per_second: (inference.iters > 0).then(|| items / (wall_ns as f64 / 1e9)),
        wall_ns,
        usage,
        error,
    })
}

/// Of ONNX Runtime's programming interface, as the feature of `ort` in `Cargo.toml` has it.
const API_VERSION: u32 = 22;

/// What `OrtGetApiBase` of ONNX Runtime's C header returns.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// The version of the library, as it says, or why it is none: `ort` takes what it is given.
fn version(library: &Path) -> Result<String, String> {
    // SAFETY: what a library does when it is loaded is the choice of who named it.
    let library = unsafe { libloading::Library::new(library) }.map_err(|error| {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        first_line(&why)
    })?;
    // SAFETY: the type is that of ONNX Runtime's header.
    let get_base = unsafe { library.get::<unsafe extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase") }
        .map_err(|_| "it does not export `OrtGetApiBase`".to_owned())?;
    // SAFETY: as above; the library is loaded.
    let base = unsafe { get_base() };
    // SAFETY: null, or a constant of the library.
    let Some(base) = (unsafe { base.as_ref() }) else { return Err("it has no programming interface".to_owned()) };
    // SAFETY: the types are those of the header.
    let version = unsafe { (base.get_version)() };
    // SAFETY: as above.
    let api = unsafe { (base.get_api)(API_VERSION) };
    if version.is_null() || api.is_null() {
        return Err(format!("it has not version {API_VERSION} of the programming interface"));
    }
    // SAFETY: a constant string of the library, ended by 0.
    Ok(unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned())
}

/// Values of PyTorch on the CPU for the first item: `models/reference.py` made them.
#[derive(serde::Deserialize)]
struct Reference {
    first: Vec<f32>,
}

/// The most that a value may differ, in single precision.
const TOLERANCE: f32 = 1e-4;

/// How far the first item is from its reference.
fn compare(model: ModelChoice, values: &[f32]) -> Result<f32, InferError> {
    if values.iter().any(|value| !value.is_finite()) {
        return Err(InferError::NotANumber);
    }
    let text = match model {
        ModelChoice::Resnet18 => include_str!("../../models/resnet18.json"),
        ModelChoice::Resnet34 => include_str!("../../models/resnet34.json"),
        ModelChoice::Minilm => include_str!("../../models/minilm.json"),
        ModelChoice::Distilbert => include_str!("../../models/distilbert.json"),
    };
    let Reference { first } = serde_json::from_str(text).expect("the references are in order");
    let far = first.iter().zip(values).map(|(expected, found)| (expected - found).abs()).fold(0.0, f32::max);
    if far > TOLERANCE { Err(InferError::WrongResult(far, TOLERANCE)) } else { Ok(far) }
}
