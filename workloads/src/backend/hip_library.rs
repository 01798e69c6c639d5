//! The entry points of AMD's HIP runtime that `bench` calls, found in a library that is loaded at run time: AMD's own
//! `libamdhip64`, or one with the same names. ADR 13 says why by hand.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    mem::ManuallyDrop,
};

use libloading::Library;

use super::load_first;

/// A handle or an address.
pub(super) type Pointer = *mut c_void;

/// Results of calls that are no success: `hipErrorNoDevice`, `hipErrorNotSupported`.
pub(super) const NO_DEVICE: c_int = 100;
pub(super) const NOT_SUPPORTED: c_int = 801;

/// `hipCtxCreate` and `hipCtxDestroy`: HIP's headers mark them as deprecated, and HIP for CPUs has none.
type Contexts = (unsafe extern "C" fn(*mut Pointer, c_uint, c_int) -> c_int, unsafe extern "C" fn(Pointer) -> c_int);

/// Declares the table: a field for every name, and where each comes from.
macro_rules! entry_points {
    ($($(#[$doc:meta])* $field:ident = $name:literal ($($argument:ty),*);)*) => {
        /// Functions of a HIP runtime. They live as long as the library, which is never unloaded.
        pub(super) struct HipLibrary {
            /// Its file.
            pub(super) path: String,
            get_error_name: unsafe extern "C" fn(c_int) -> *const c_char,
            /// Where the library has them.
            pub(super) contexts: Option<Contexts>,
            $($(#[$doc])* pub(super) $field: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl HipLibrary {
            /// Loads the first library of these names that is there, and finds every entry point in it.
            pub(super) fn load(names: &[String]) -> Result<Self, String> {
                let (library, path) = load_first(names)?;
                // Its threads would go on without their code.
                let library = ManuallyDrop::new(library);
                let find_all = || -> Result<Self, &'static str> {
                    // SAFETY: the types are those of HIP's headers, the same since 5.0.
                    unsafe {
                        Ok(Self {
                            get_error_name: find(&library, "hipGetErrorName")?,
                            contexts: find(&library, "hipCtxCreate").ok().zip(find(&library, "hipCtxDestroy").ok()),
                            $($field: find(&library, $name)?,)*
                            path: path.clone(),
                        })
                    }
                };
                find_all().map_err(|name| {
                    format!("{path} has no `{name}`: it is older than ROCm 5.2, or not a HIP runtime")
                })
            }
        }
    };
}

entry_points! {
    init = "hipInit" (c_uint);
    runtime_get_version = "hipRuntimeGetVersion" (*mut c_int);
    get_device_count = "hipGetDeviceCount" (*mut c_int);
    set_device = "hipSetDevice" (c_int);
    set_device_flags = "hipSetDeviceFlags" (c_uint);
    device_get_name = "hipDeviceGetName" (*mut c_char, c_int, c_int);
    device_get_attribute = "hipDeviceGetAttribute" (*mut c_int, c_int, c_int);
    malloc = "hipMalloc" (*mut Pointer, usize);
    free = "hipFree" (Pointer);
    malloc_managed = "hipMallocManaged" (*mut Pointer, usize, c_uint);
    malloc_async = "hipMallocAsync" (*mut Pointer, usize, Pointer);
    free_async = "hipFreeAsync" (Pointer, Pointer);
    host_malloc = "hipHostMalloc" (*mut Pointer, usize, c_uint);
    host_free = "hipHostFree" (Pointer);
    memcpy_async = "hipMemcpyAsync" (Pointer, *const c_void, usize, c_int, Pointer);
    memset_async = "hipMemsetAsync" (Pointer, c_int, usize, Pointer);
    stream_create_with_flags = "hipStreamCreateWithFlags" (*mut Pointer, c_uint);
    stream_synchronize = "hipStreamSynchronize" (Pointer);
    stream_begin_capture = "hipStreamBeginCapture" (Pointer, c_int);
    stream_end_capture = "hipStreamEndCapture" (Pointer, *mut Pointer);
    graph_instantiate = "hipGraphInstantiate" (*mut Pointer, Pointer, *mut Pointer, *mut c_char, usize);
    graph_destroy = "hipGraphDestroy" (Pointer);
    graph_launch = "hipGraphLaunch" (Pointer, Pointer);
    module_load_data = "hipModuleLoadData" (*mut Pointer, *const c_void);
    module_get_function = "hipModuleGetFunction" (*mut Pointer, Pointer, *const c_char);
    module_launch_kernel = "hipModuleLaunchKernel"
        (Pointer, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Pointer, *mut Pointer, *mut Pointer);
    event_create_with_flags = "hipEventCreateWithFlags" (*mut Pointer, c_uint);
    event_record = "hipEventRecord" (Pointer, Pointer);
    event_synchronize = "hipEventSynchronize" (Pointer);
    event_destroy = "hipEventDestroy" (Pointer);
}

impl HipLibrary {
    /// The runtime's own name of an error.
    pub(super) fn name_of(&self, error: c_int) -> String {
        // SAFETY: it returns a constant string for every number.
        let name = unsafe { (self.get_error_name)(error) };
        if name.is_null() {
            return format!("error {error}");
        }
        // SAFETY: a string of the library, ended by 0.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }
}

/// # Safety
/// The function of this name has this type.
unsafe fn find<T: Copy>(library: &Library, name: &'static str) -> Result<T, &'static str> {
    // SAFETY: as the caller promises; the library stays loaded.
    unsafe { library.get::<T>(name.as_bytes()) }.map(|symbol| *symbol).map_err(|_| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_absent_or_foreign_is_named() {
        let load = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            HipLibrary::load(&names).err().unwrap()
        };
        assert_eq!(
            load(&["libabsent.so.7", "libabsent.so.6"]),
            "no library from libabsent.so.7 to libabsent.so.6 here"
        );
        assert!(load(&["libabsent.so.7", "libc.so.6"]).contains("no `hipGetErrorName`"));
    }
}
