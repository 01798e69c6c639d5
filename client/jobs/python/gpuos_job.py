"""Jobs: GPU work that a program names, waits for and accounts for. Needs libgpuos_job and the standard library.

    context = gpuos_job.Context(gpuos_job.CUDA)
    requests = context.job_class("requests")
    with requests.begin(stream) as job:     # the stream as a number: torch.cuda.current_stream().cuda_stream
        y = model(x)
    await job                               # or job.wait()

A job is submitted at the end of its block, and ended once it was waited for. An error of the library is an Error."""
import asyncio
import contextlib
import ctypes
import os

HOST, CUDA = 1, 2
BLOCK, SPIN = 0, 1
FOREVER = 2**64 - 1
TIMEOUT = 1
_OPEN, _SUBMITTED, _DONE, _FAILED = 1, 2, 3, 4

_library = None


class _ContextOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("runtime", ctypes.c_uint32), ("flags", ctypes.c_uint32)]


class _ClassOptions(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("label", ctypes.c_char_p),
        ("lateness", ctypes.c_uint32),
        ("unknown", ctypes.c_uint32),
        ("bytes", ctypes.c_uint64),
        ("watchdog", ctypes.c_uint64),
    ]


class _Error(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("status", ctypes.c_int32),
        ("code", ctypes.c_int32),
        ("text", ctypes.c_char * 256),
    ]


class _Info(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint64),
        ("state", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("submitted", ctypes.c_uint64),
        ("known", ctypes.c_uint64),
    ]


STATS = "begun done failed duration sleeps late blocks naps unrecorded high_water hits growths spills trims used_after_end"


class _Stats(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64)] + [(name, ctypes.c_uint64) for name in STATS.split()]


class Error(Exception):
    """What libgpuos_job refused: `status` is a `gpuos_job_status`, `code` the runtime's own."""

    def __init__(self, status, code, text):
        super().__init__(text)
        self.status, self.code = status, code


class Timeout(Error):
    """The time to wait is over, the job is not."""


def _load():
    global _library
    if _library is None:
        _library = ctypes.CDLL(os.environ.get("GPUOS_JOB_LIBRARY", "libgpuos_job.so.1"))
        _library.gpuos_job_status_text.restype = ctypes.c_char_p
        handle = ctypes.c_uint64
        _library.gpuos_job_begin.argtypes = [handle, ctypes.c_void_p, ctypes.POINTER(handle)]
        _library.gpuos_job_alloc.argtypes = [handle, ctypes.c_size_t, ctypes.c_size_t, ctypes.POINTER(handle)]
        _library.gpuos_job_wait.argtypes = [handle, handle]
        _library.gpuos_job_poll.argtypes = [handle, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        for name in ("submit", "cancel", "end", "enter", "class_close", "context_close"):
            getattr(_library, "gpuos_job_" + name).argtypes = [handle]
        for name in ("context_open", "class_open", "class_stats", "fd", "get_info", "get_error", "next_deadline"):
            count = 3 if name == "class_open" else 2
            first = ctypes.c_void_p if name == "context_open" else handle
            getattr(_library, "gpuos_job_" + name).argtypes = [first] + [ctypes.c_void_p] * (count - 1)
    return _library


def _raise(error):
    kind = Timeout if error.status == TIMEOUT else Error
    words = _load().gpuos_job_status_text(error.status).decode()
    raise kind(error.status, error.code, f"{words}: {error.text.decode(errors='replace')}")


def _call(name, *arguments):
    library = _load()
    if getattr(library, "gpuos_job_" + name)(*arguments) != 0:
        error = _Error(size=ctypes.sizeof(_Error))
        library.gpuos_job_last_error(ctypes.byref(error))
        _raise(error)


class Context:
    """A runtime: HOST or CUDA (in the context that is current in this thread)."""

    def __init__(self, runtime, debug=False):
        self._handle = ctypes.c_uint64()
        options = _ContextOptions(ctypes.sizeof(_ContextOptions), runtime, int(debug))
        _call("context_open", ctypes.byref(options), ctypes.byref(self._handle))
        self._waiting = {}
        self._loop = None

    def job_class(self, label, lateness=0, unknown=BLOCK, bytes=0):
        """Jobs that take about the same; how late their waits may be, in thousandths; how to wait while nothing is known."""
        return JobClass(self, label, lateness, unknown, bytes)

    def fileno(self):
        """A descriptor that is readable when `poll` should be called; by changes alone, until that returns nothing."""
        fd = ctypes.c_int()
        _call("fd", self._handle, ctypes.byref(fd))
        return fd.value

    def poll(self, most=64):
        """Handles of jobs whose end is known and was not told yet."""
        ended, count = (ctypes.c_uint64 * most)(), ctypes.c_size_t()
        _call("poll", self._handle, ended, most, ctypes.byref(count))
        return ended[: count.value]

    def close(self):
        """Ends the context; no job is in flight."""
        if self._loop is not None:
            self._loop.remove_reader(self.fileno())
            self._loop = None
        _call("context_close", self._handle)

    def _future(self, job):
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            has_other = self._loop is not None and not self._loop.is_closed()
            if has_other and any(not future.done() for future in self._waiting.values()):
                raise RuntimeError("jobs of one context are awaited in one event loop at a time")
            self._waiting.clear()
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self.fileno())
            loop.add_reader(self.fileno(), self._tell)
            self._loop = loop
        # Tasks that await the same job share it.
        future = self._waiting.get(job._handle.value)
        if future is None:
            future = self._waiting[job._handle.value] = loop.create_future()
        if job.state() in (_DONE, _FAILED) and not future.done():
            future.set_result(None)
        return future

    def _has_ended(self, handle):
        """A wait has told of it, so that no poll does: who awaits it is told here."""
        future, loop = self._waiting.pop(handle, None), self._loop
        if future is None or future.done() or loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(None))

    def _tell(self):
        for handle in self.poll():
            future = self._waiting.get(handle)
            if future is not None and not future.done():
                future.set_result(None)


class JobClass:
    """See `Context.job_class`."""

    def __init__(self, context, label, lateness, unknown, bytes):
        self._context, self._handle = context, ctypes.c_uint64()
        options = _ClassOptions(ctypes.sizeof(_ClassOptions), label.encode(), lateness, unknown, bytes, 0)
        _call("class_open", context._handle, ctypes.byref(options), ctypes.byref(self._handle))

    def begin(self, stream):
        """A job: what this thread issues in the stream from now on, until the block ends."""
        return Job(self, stream)

    @contextlib.contextmanager
    def work(self):
        """While the block runs this thread works for the class: a tracer charges to it what the thread calls and uses."""
        _call("enter", self._handle)
        try:
            yield
        finally:
            _call("leave")

    def stats(self):
        """What was counted, by name."""
        stats = _Stats(size=ctypes.sizeof(_Stats))
        _call("class_stats", self._handle, ctypes.byref(stats))
        return {name: getattr(stats, name) for name in STATS.split()}

    def close(self):
        """Gives its memory back."""
        _call("class_close", self._handle)


class Job:
    """See `JobClass.begin`. One that is dropped without a wait is given up."""

    def __init__(self, job_class, stream):
        self._context, self._handle, self._ended, self._error = job_class._context, ctypes.c_uint64(), True, None
        _call("begin", job_class._handle, stream, ctypes.byref(self._handle))
        self._ended = False

    def alloc(self, bytes, alignment=0):
        """The address of memory that the job has until it is ended."""
        address = ctypes.c_uint64()
        _call("alloc", self._handle, bytes, alignment, ctypes.byref(address))
        return address.value

    def submit(self):
        """All was issued."""
        if self.state() == _OPEN:
            _call("submit", self._handle)

    def state(self):
        """A `gpuos_job_state`; of one that was waited for, how it ended."""
        if self._ended:
            return _DONE if self._error is None else _FAILED
        info = _Info(size=ctypes.sizeof(_Info))
        _call("get_info", self._handle, ctypes.byref(info))
        return info.state

    def wait(self, seconds=None):
        """Until its end is known; then it is ended. `Timeout` after so many seconds. Again it returns, or raises, the same."""
        if not self._ended:
            nanoseconds = FOREVER if seconds is None else int(max(seconds, 0) * 1e9)
            try:
                _call("wait", self._handle, nanoseconds)
            except Timeout:
                raise
            except Error as error:
                # Another thread, or the loop, may have waited for it and ended it meanwhile.
                if not self._ended:
                    if self.state() != _FAILED:
                        raise
                    self._error = error
            self._end()
        if self._error is not None:
            raise self._error

    def cancel(self):
        """Gives it up."""
        if not self._ended:
            _call("cancel", self._handle)

    def _end(self):
        if not self._ended:
            self._ended = True
            try:
                _call("end", self._handle)
            except Error:
                self._ended = False
                raise
            self._context._has_ended(self._handle.value)

    def _drop(self):
        try:
            if not self._ended and self.state() in (_OPEN, _SUBMITTED):
                self.cancel()
            self._end()
        except Error:
            # Its end became known meanwhile, or the library is gone.
            pass

    def __del__(self):
        if not self._ended:
            self._drop()

    def __await__(self):
        if self.state() == _OPEN:
            # Nothing tells of it: the library says why.
            self.wait(0)
        if self.state() == _SUBMITTED:
            future = self._context._future(self)
            try:
                yield from asyncio.shield(future).__await__()
            finally:
                if future.done():
                    self._context._waiting.pop(self._handle.value, None)
        self.wait(0)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            # The program's own exception is what it sees.
            self._drop()
            return
        try:
            self.submit()
        except Error:
            self._drop()
            raise
