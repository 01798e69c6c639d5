//! wgpu's compute pipelines: `vulkan` on Linux, `metal` on macOS.

use std::{
    cell::RefCell,
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use wgpu::util::DeviceExt as _;

use super::{Backend, BackendError, Capabilities, Description, Kernel, Probe, loaded_from, no_such_device};
use crate::workload::{Memory, Setup};

const SOURCE: &str = include_str!("../../kernels/increment.wgsl");
/// Invocations of a workgroup, as the kernel says.
const GROUP: u32 = 256;
/// Workgroups in one dimension that every device takes (WebGPU's `maxComputeWorkgroupsPerDimension`).
const MOST_GROUPS: u32 = 65_535;

/// Which graphics interface.
pub(crate) trait Interface {
    const NAME: &'static str;
    const HINT: &'static str;
    const BACKENDS: wgpu::Backends;
    /// What the file of its library begins with.
    const FILE: &'static str;
}

/// Of Linux, among others.
pub(crate) struct Vulkan;

impl Interface for Vulkan {
    const NAME: &'static str = "vulkan";
    const HINT: &'static str = "install the Vulkan driver of your GPU, or `sudo apt-get install mesa-vulkan-drivers` for one that executes on the CPU";
    const BACKENDS: wgpu::Backends = wgpu::Backends::VULKAN;
    const FILE: &'static str = "libvulkan.so";
}

/// Of macOS.
pub(crate) struct Metal;

impl Interface for Metal {
    const NAME: &'static str = "metal";
    const HINT: &'static str = "Metal is there on macOS alone";
    const BACKENDS: wgpu::Backends = wgpu::Backends::METAL;
    const FILE: &'static str = "Metal";
}

/// One queue on a device.
pub(crate) struct Wgpu<I> {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    /// Copies to the host that arrive at the next wait.
    arriving: Vec<Arriving>,
    /// What wgpu found wrong; it tells elsewhere than where it was asked.
    wrong: Arc<Mutex<Option<String>>>,
    description: Description,
    on_cpu: bool,
    interface: PhantomData<I>,
}

/// A storage buffer, and what binds it to the kernel of the last launch.
pub(crate) struct Buffer {
    memory: wgpu::Buffer,
    bound: RefCell<Option<(Kernel, wgpu::BindGroup)>>,
}

struct Arriving {
    staging: wgpu::Buffer,
    into: *mut u32,
    words: usize,
}

fn adapters<I: Interface>() -> Result<Vec<wgpu::Adapter>, BackendError> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = I::BACKENDS;
    let instance = wgpu::Instance::new(descriptor);
    let adapters = pollster::block_on(instance.enumerate_adapters(I::BACKENDS));
    if adapters.is_empty() {
        return Err(BackendError::Unavailable { backend: I::NAME, reason: "no device".to_owned(), hint: I::HINT });
    }
    Ok(adapters)
}

fn describe<I: Interface>(adapter: &wgpu::Adapter) -> Description {
    let information = adapter.get_info();
    Description {
        name: I::NAME,
        runtime: format!("{} {}", information.driver, information.driver_info).trim().to_owned(),
        device: information.name,
    }
}

impl<I: Interface> Wgpu<I> {
    #[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
    fn call(call: &'static str, reason: impl ToString) -> BackendError {
        BackendError::Call { backend: I::NAME, call, reason: reason.to_string() }
    }

    /// Whether wgpu has found something wrong since the last look.
    fn look(&self, call: &'static str) -> Result<(), BackendError> {
        let wrong = self.wrong.lock().map_or(None, |mut wrong| wrong.take());
        wrong.map_or(Ok(()), |reason| Err(Self::call(call, reason)))
    }

    fn submit(&self, encode: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder);
        self.queue.submit([encoder.finish()]);
    }

    /// The array and the arguments as the kernel gets them.
    fn bind(&self, array: &Buffer, kernel: Kernel, row: u32) -> wgpu::BindGroup {
        let words = [kernel.words, kernel.amount, row, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let arguments = self.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: &bytes,
            usage: wgpu::BufferUsages::UNIFORM,
        });
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: array.memory.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: arguments.as_entire_binding() },
            ],
        })
    }
}

/// wgpu counts in whole words.
fn whole(bytes: usize) -> u64 {
    (bytes as u64).checked_next_multiple_of(4).unwrap_or(u64::MAX)
}

impl<I: Interface> Backend for Wgpu<I> {
    type Buffer = Buffer;
    type Graph = std::convert::Infallible;
    const NAME: &'static str = I::NAME;
    const CAPABILITIES: Capabilities = Capabilities::PLAIN;

    fn probe() -> Result<Probe, BackendError> {
        let adapters = adapters::<I>()?;
        let described: Vec<_> = adapters.iter().map(describe::<I>).collect();
        Ok(Probe {
            library: loaded_from(I::FILE),
            runtime: described[0].runtime.clone(),
            devices: described.into_iter().map(|described| described.device).collect(),
        })
    }

    fn open(setup: &Setup) -> Result<Self, BackendError> {
        let mut adapters = adapters::<I>()?;
        if setup.device >= adapters.len() {
            return Err(no_such_device(I::NAME, setup.device, adapters.len()));
        }
        let adapter = adapters.swap_remove(setup.device);
        let (device, queue) = pollster::block_on(
            adapter.request_device(&wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() }),
        )
        .map_err(|error| Self::call("request_device", error))?;
        let wrong = Arc::new(Mutex::new(None));
        let told = Arc::clone(&wrong);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            if let Ok(mut wrong) = told.lock() {
                wrong.get_or_insert_with(|| error.to_string());
            }
        }));
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(SOURCE.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("increment"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let description = describe::<I>(&adapter);
        let on_cpu = adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let arriving = Vec::new();
        let opened = Self { device, queue, pipeline, arriving, wrong, description, on_cpu, interface: PhantomData };
        opened.look("create_compute_pipeline")?;
        Ok(opened)
    }

    fn describe(&self) -> Description {
        self.description.clone()
    }

    fn is_in_host_memory(&self) -> bool {
        self.on_cpu
    }

    fn allocate(&mut self, _: Memory, bytes: usize) -> Result<Buffer, BackendError> {
        let limits = self.device.limits();
        let most = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        if bytes == 0 || whole(bytes) > most {
            let reason = format!("INVALID_BUFFER_SIZE: a buffer has from 1 to {most} bytes here");
            return Err(Self::call("create_buffer", reason));
        }
        let memory = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: whole(bytes),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.look("create_buffer")?;
        Ok(Buffer { memory, bound: RefCell::new(None) })
    }

    fn free(&mut self, buffer: Buffer) -> Result<(), BackendError> {
        buffer.memory.destroy();
        drop(buffer);
        // Memory is given back when wgpu looks.
        self.device.poll(wgpu::PollType::Poll).map_err(|error| Self::call("poll", error))?;
        self.look("destroy")
    }

    fn clear(&mut self, buffer: &mut Buffer) -> Result<(), BackendError> {
        self.submit(|encoder| encoder.clear_buffer(&buffer.memory, 0, None));
        self.wait()
    }

    fn launch(&mut self, _: usize, array: &Buffer, kernel: Kernel) -> Result<(), BackendError> {
        let groups = kernel.words.div_ceil(GROUP).max(1);
        let (wide, high) = (groups.min(MOST_GROUPS), groups.div_ceil(MOST_GROUPS));
        let mut bound = array.bound.borrow_mut();
        let group = match bound.take() {
            Some((of, group)) if of == kernel => group,
            _ => self.bind(array, kernel, wide * GROUP),
        };
        self.submit(|encoder| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(wide, high, 1);
        });
        *bound = Some((kernel, group));
        self.look("submit")
    }

    fn wait(&mut self) -> Result<(), BackendError> {
        // What was written to buffers goes with the next submission.
        self.queue.submit([]);
        for arriving in &self.arriving {
            arriving.staging.slice(..).map_async(wgpu::MapMode::Read, |_| ());
        }
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| Self::call("poll", error))?;
        self.look("poll")?;
        for Arriving { staging, into, words } in self.arriving.drain(..) {
            let bytes = staging.slice(..).get_mapped_range().map_err(|error| Self::call("get_mapped_range", error))?;
            // SAFETY: whoever asked for the copy left the place alone; both have so many words.
            unsafe { into.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), words * 4) };
        }
        Ok(())
    }

    unsafe fn copy_in(&mut self, _: usize, from: &[u32], to: &Buffer) -> Result<(), BackendError> {
        // SAFETY: words are bytes, too.
        let bytes = unsafe { std::slice::from_raw_parts(from.as_ptr().cast::<u8>(), size_of_val(from)) };
        self.queue.write_buffer(&to.memory, 0, bytes);
        self.look("write_buffer")
    }

    unsafe fn copy_out(&mut self, _: usize, from: &Buffer, into: &mut [u32]) -> Result<(), BackendError> {
        if into.is_empty() {
            return Ok(());
        }
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size_of_val(into) as u64,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.submit(|encoder| encoder.copy_buffer_to_buffer(&from.memory, 0, &staging, 0, size_of_val(into) as u64));
        self.arriving.push(Arriving { staging, into: into.as_mut_ptr(), words: into.len() });
        self.look("copy_buffer_to_buffer")
    }
}
