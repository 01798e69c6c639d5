/* Jobs: GPU work that a program names, waits for, bounds the memory of, and accounts for. client/jobs/SPEC.md says what a job
 * is, client/jobs/README.md how a server uses it. Made by `cargo xtask gen`. SPDX: MIT OR Apache-2.0 */

#ifndef GPUOS_JOB_H
#define GPUOS_JOB_H

#include <stddef.h>
#include <stdint.h>

// Version of this interface: the first number changes when a program must be built again.
#define GPUOS_JOB_VERSION 65536

// No timeout; no deadline.
#define GPUOS_JOB_FOREVER UINT64_MAX

// Bytes of the text of an error, the closing 0 counted.
#define GPUOS_JOB_TEXT 256

// A flag of a context: memory of ended jobs is filled, protected where that is possible, and checked before it is used again.
#define GPUOS_JOB_DEBUG 1

// A code of the C interface. 0 is success; codes never change their meaning.
enum gpuos_job_status {
  // Done.
  GPUOS_JOB_STATUS_OK = 0,
  // The time to wait is over, the job is not.
  GPUOS_JOB_STATUS_TIMEOUT = 1,
  // An argument is none that this function takes.
  GPUOS_JOB_STATUS_INVALID = 2,
  // The handle names nothing that is there: ended, closed, or never made.
  GPUOS_JOB_STATUS_STALE = 3,
  // The job is in a state in which this cannot be done.
  GPUOS_JOB_STATUS_STATE = 4,
  // The runtime is not here, or lacks a function.
  GPUOS_JOB_STATUS_NO_RUNTIME = 5,
  // The runtime refused a call.
  GPUOS_JOB_STATUS_RUNTIME = 6,
  // The job's work failed on the device.
  GPUOS_JOB_STATUS_FAILED = 7,
  // The context or device that the job ran on is gone.
  GPUOS_JOB_STATUS_LOST = 8,
  // The job was cancelled.
  GPUOS_JOB_STATUS_CANCELLED = 9,
  // No memory.
  GPUOS_JOB_STATUS_MEMORY = 10,
  // More jobs at once than the library holds.
  GPUOS_JOB_STATUS_TOO_MANY = 11,
  // The stream is being captured into a graph; a job cannot begin or end inside.
  GPUOS_JOB_STATUS_CAPTURING = 12,
  // The process has forked: the parent's jobs are not the child's.
  GPUOS_JOB_STATUS_FORKED = 13,
  // A system call failed.
  GPUOS_JOB_STATUS_SYSTEM = 14,
  // A fault of this library.
  GPUOS_JOB_STATUS_INTERNAL = 15,
  // The back-end cannot do this.
  GPUOS_JOB_STATUS_UNSUPPORTED = 16,
  // Memory of an ended job was written (found by a context that debugs).
  GPUOS_JOB_STATUS_USED_AFTER_END = 17,
};

// Where a job stands.
enum gpuos_job_state {
  // Made; nothing works for it. Inside `begin` alone.
  GPUOS_JOB_STATE_NEW = 0,
  // Its thread is at work for it.
  GPUOS_JOB_STATE_OPEN = 1,
  // A completion token is queued behind its last operation.
  GPUOS_JOB_STATE_SUBMITTED = 2,
  // The token came.
  GPUOS_JOB_STATE_DONE = 3,
  // It failed, or was cancelled.
  GPUOS_JOB_STATE_FAILED = 4,
  // Its memory is back, its handle stale.
  GPUOS_JOB_STATE_ENDED = 5,
};

// How to wait for a job of which nothing is known yet, or whose kind varies so much that sleeping to its earliest end gains
// little.
enum gpuos_job_unknown {
  // Asleep, in the runtime.
  GPUOS_JOB_UNKNOWN_BLOCK = 0,
  // Looking all the time; after the watchdog's time with naps in between.
  GPUOS_JOB_UNKNOWN_SPIN = 1,
};

// Which runtime.
enum gpuos_job_runtime {
  // Streams on threads of the CPU, made by `gpuos_job_host_open`.
  GPUOS_JOB_RUNTIME_HOST = 1,
  // CUDA's driver API, in the context of the thread that opens; streams are `CUstream`.
  GPUOS_JOB_RUNTIME_CUDA = 2,
  // HIP, on the device of the thread that opens; streams are `hipStream_t`.
  GPUOS_JOB_RUNTIME_HIP = 3,
  // OpenCL; streams are `cl_command_queue`. Memory of jobs is the host's.
  GPUOS_JOB_RUNTIME_OPENCL = 4,
};

// What went wrong.
struct gpuos_job_error {
  // `sizeof` this structure.
  uint64_t size;
  // A `gpuos_job_status`.
  int32_t status;
  // The runtime's own code, or `errno`; 0 where neither has to do with it.
  int32_t code;
  // What failed, on what: UTF-8, closed by a 0.
  char text[GPUOS_JOB_TEXT];
};

// How a context is opened.
struct gpuos_job_context_options {
  // `sizeof` this structure.
  uint64_t size;
  // Which: a `gpuos_job_runtime`.
  uint32_t runtime;
  // `GPUOS_JOB_DEBUG`, or 0.
  uint32_t flags;
};

// A context.
typedef uint64_t gpuos_job_context_t;

// How a class is opened. All but `size` may be 0.
struct gpuos_job_class_options {
  // `sizeof` this structure.
  uint64_t size;
  // Its name, or null. A tracer tells classes apart by its first 63 bytes.
  const char *label;
  // How late waits may be on average, in thousandths of a job's duration. 0 wakes up for the earliest of the last 32.
  uint32_t lateness;
  // A `gpuos_job_unknown`.
  uint32_t unknown;
  // Bytes that a job is likely to need; 0 where that is not known.
  uint64_t bytes;
  // After how many nanoseconds beyond the longest duration the runtime is asked what became of a job; 0 for 100 ms.
  uint64_t watchdog;
};

// A class of jobs.
typedef uint64_t gpuos_job_class_t;

// What was counted since a class was opened.
struct gpuos_job_stats {
  // `sizeof` this structure.
  uint64_t size;
  // Jobs that began.
  uint64_t begun;
  // Jobs whose work was done.
  uint64_t done;
  // Jobs that failed, or were cancelled.
  uint64_t failed;
  // The median of the last durations, nanoseconds; 0 while none is known.
  uint64_t duration;
  // Sleeps of waits to a predicted time.
  uint64_t sleeps;
  // Of jobs, those that had ended before the predicted time.
  uint64_t late;
  // Waits in the runtime.
  uint64_t blocks;
  // Sleeps for jobs that took longer than any before.
  uint64_t naps;
  // Jobs that asked for a recording and got none.
  uint64_t unrecorded;
  // Bytes that jobs had at once, at most.
  uint64_t high_water;
  // Regions of memory that were there already.
  uint64_t hits;
  // Regions that the runtime was asked for.
  uint64_t growths;
  // Jobs that needed more than one region.
  uint64_t spills;
  // Regions that went back to the runtime.
  uint64_t trims;
  // Regions that were written after their job's end; counted with `GPUOS_JOB_DEBUG`.
  uint64_t used_after_end;
};

// A job.
typedef uint64_t gpuos_job_t;

// What is known of a job.
struct gpuos_job_info {
  // `sizeof` this structure.
  uint64_t size;
  // A `gpuos_job_state`.
  uint32_t state;
  // 0.
  uint32_t reserved;
  // When it was submitted, nanoseconds of `CLOCK_MONOTONIC`; 0 before.
  uint64_t submitted;
  // When its end was known; 0 before.
  uint64_t known;
};

// What a host stream does: 0, or an error that ends the stream.
typedef int (*gpuos_job_function)(void *argument);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library: `GPUOS_JOB_VERSION` of its header.
uint32_t gpuos_job_version(void);

// A status in words, for as long as the process lives.
const char *gpuos_job_status_text(int status);

// What went wrong in the last call of this thread that failed.
//
// # Safety
// `error` points to a structure whose `size` is set.
int gpuos_job_last_error(struct gpuos_job_error *error);

// Opens a context on a runtime, which is loaded now.
//
// # Safety
// `options` points to a structure whose `size` is set, `context` to a place for the handle.
int gpuos_job_context_open(const struct gpuos_job_context_options *options, gpuos_job_context_t *context);

// Closes a context that has no job in flight: its classes begin no more. The descriptor is closed with its last class and job.
int gpuos_job_context_close(gpuos_job_context_t context);

// Opens a class of jobs.
//
// # Safety
// `options` points to a structure whose `size` is set, its `label` is null or closed by a 0; `class` points to a place for the
// handle.
int gpuos_job_class_open(gpuos_job_context_t context,
                         const struct gpuos_job_class_options *options,
                         gpuos_job_class_t *class_);

// Closes a class: its memory goes back to the runtime, that of jobs in flight when they end.
int gpuos_job_class_close(gpuos_job_class_t class_);

// What was counted of a class.
//
// # Safety
// `stats` points to a structure whose `size` is set.
int gpuos_job_class_stats(gpuos_job_class_t class_, struct gpuos_job_stats *stats);

// Gives back to the runtime what no job of the class has now.
//
// # Safety
// `bytes` is null, or points to a place for how much that was.
int gpuos_job_class_trim(gpuos_job_class_t class_, uint64_t *bytes);

// From now on the calling thread works for a class, until `gpuos_job_leave`: a tracer charges to it what the thread calls and uses.
// A store, no call. The innermost of at most eight counts. A thread works for a job's class by itself while it issues its work, and
// while it waits for it.
int gpuos_job_enter(gpuos_job_class_t class_);

// The calling thread works for what it worked for before `gpuos_job_enter`.
int gpuos_job_leave(void);

// Begins a job: what the calling thread issues in the stream from now on belongs to it.
//
// # Safety
// `stream` is a stream of the class's runtime; `job` points to a place for the handle.
int gpuos_job_begin(gpuos_job_class_t class_, void *stream, gpuos_job_t *job);

// Memory of the device that an open job has until it is ended. `alignment` is a power of two, or 0 for 256.
//
// # Safety
// `address` points to a place for where it is.
int gpuos_job_alloc(gpuos_job_t job, size_t bytes, size_t alignment, uint64_t *address);

// Records what an open job issues, to be submitted as one, and for all jobs of its class that ask for it. Where that was done
// before, `is_recorded` is 1, and the job issues nothing. Where it fails, the job goes on without.
//
// # Safety
// `is_recorded` points to a place for 0 or 1.
int gpuos_job_record(gpuos_job_t job,
                     int *is_recorded);

// Queues the completion token behind all that the job has issued. Where that fails, the job has failed.
int gpuos_job_submit(gpuos_job_t job);

// Waits until the job's end is known, `timeout` nanoseconds at most (`GPUOS_JOB_FOREVER`: as long as it takes). Of a job that
// failed it returns why.
int gpuos_job_wait(gpuos_job_t job,
                   uint64_t timeout);

// When an event loop should call `gpuos_job_poll` next, nanoseconds of `CLOCK_MONOTONIC`; `GPUOS_JOB_FOREVER` while nothing is in
// flight. It is for a loop whose thread submits all jobs: what another thread submits, cancels
// or sees fail does not wake it; `gpuos_job_fd` does.
//
// # Safety
// `deadline` points to a place for it.
int gpuos_job_next_deadline(gpuos_job_context_t context,
                            uint64_t *deadline);

// Jobs whose end is known and that no wait and no poll has returned yet, `most` at most. Where one is due within some
// microseconds it looks for that long.
//
// # Safety
// `jobs` points to places for `most` handles, `count` to one for how many there are.
int gpuos_job_poll(gpuos_job_context_t context,
                   gpuos_job_t *jobs,
                   size_t most,
                   size_t *count);

// A descriptor that is readable when `gpuos_job_poll` should be called, which may return nothing yet. A loop that is told of changes
// alone (`EPOLLET`) polls until nothing is returned. It belongs to the context: it is neither read, written nor closed by the
// program.
//
// # Safety
// `fd` points to a place for it.
int gpuos_job_fd(gpuos_job_context_t context,
                 int *fd);

// What is known of a job that was not ended.
//
// # Safety
// `info` points to a structure whose `size` is set.
int gpuos_job_get_info(gpuos_job_t job, struct gpuos_job_info *info);

// Why a job failed; `status` is 0 where it has not.
//
// # Safety
// `error` points to a structure whose `size` is set.
int gpuos_job_get_error(gpuos_job_t job, struct gpuos_job_error *error);

// Gives a job up: it fails, and waits for it return. What it has submitted goes on; its memory is used again when that is over.
int gpuos_job_cancel(gpuos_job_t job);

// Ends a job whose end is known: its memory goes back to its class, its handle is stale.
int gpuos_job_end(gpuos_job_t job);

// The job that has an address (`is_live` is 1), or had it last and has ended (0).
//
// # Safety
// `job` and `is_live` point to places for them.
int gpuos_job_owner(gpuos_job_context_t context, uint64_t address, gpuos_job_t *job, int *is_live);

// Makes a stream of the runtime `GPUOS_JOB_HOST`: a thread of its own.
//
// # Safety
// `stream` points to a place for it.
int gpuos_job_host_open(void **stream);

// Does what is queued, and ends the stream.
//
// # Safety
// Functions that are queued can still be called.
int gpuos_job_host_close(void *stream);

// Queues a function: 0, or an error that ends the stream, and fails its jobs.
//
// # Safety
// The function can be called with the argument, on another thread; where it is recorded, any number of times.
int gpuos_job_host_launch(void *stream, gpuos_job_function function, void *argument);

// The device of a host stream is gone, as a test wants it: nothing that is queued is done any more.
//
// # Safety
// As `gpuos_job_host_close`.
int gpuos_job_host_lose(void *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* GPUOS_JOB_H */
