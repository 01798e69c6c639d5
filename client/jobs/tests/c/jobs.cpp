// C++17: the header is one of C++, too.
#include <cstdio>

#include "gpuos_job.h"

namespace {

struct context {
    gpuos_job_context_t handle = 0;
    context()
    {
        gpuos_job_context_options options{};
        options.size = sizeof options;
        options.runtime = GPUOS_JOB_RUNTIME_HOST;
        gpuos_job_context_open(&options, &handle);
    }
    ~context() { gpuos_job_context_close(handle); }
};

} // namespace

int main()
{
    context context;
    gpuos_job_class_options options{};
    options.size = sizeof options;
    gpuos_job_class_t jobs = 0;
    void *stream = nullptr;
    if (gpuos_job_class_open(context.handle, &options, &jobs) != 0 || gpuos_job_host_open(&stream) != 0) {
        return 1;
    }
    int done = 0;
    const auto work = [](void *argument) {
        ++*static_cast<int *>(argument);
        return 0;
    };
    gpuos_job_t job = 0;
    if (gpuos_job_begin(jobs, stream, &job) != 0 || gpuos_job_host_launch(stream, work, &done) != 0 ||
        gpuos_job_submit(job) != 0 || gpuos_job_wait(job, GPUOS_JOB_FOREVER) != 0 || gpuos_job_end(job) != 0) {
        return 1;
    }
    gpuos_job_host_close(stream);
    std::puts(done == 1 ? "ok" : "not done");
    return done == 1 ? 0 : 1;
}
