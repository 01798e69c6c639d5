/* C11: a job from begin to end, an event loop, an error, memory, options of another version. */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gpuos_job.h"

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        int status = (call);                                                                                           \
        if (status != GPUOS_JOB_STATUS_OK) {                                                                           \
            struct gpuos_job_error error = {.size = sizeof error};                                                     \
            gpuos_job_last_error(&error);                                                                              \
            fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, #call, gpuos_job_status_text(status),          \
                    error.text);                                                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static int nap(void *argument)
{
    struct timespec time = {0, 200000};
    nanosleep(&time, NULL);
    ++*(int *)argument;
    return 0;
}

static int fail(void *argument)
{
    (void)argument;
    return 7;
}

int main(void)
{
    assert(gpuos_job_version() == GPUOS_JOB_VERSION);
    struct gpuos_job_context_options options = {.size = sizeof options, .runtime = GPUOS_JOB_RUNTIME_HOST};
    gpuos_job_context_t context;
    OK(gpuos_job_context_open(&options, &context));
    struct gpuos_job_class_options of_class = {.size = sizeof of_class, .label = "naps", .bytes = 4096};
    gpuos_job_class_t class;
    OK(gpuos_job_class_open(context, &of_class, &class));
    void *stream;
    OK(gpuos_job_host_open(&stream));

    /* Waits. */
    int count = 0;
    for (int i = 0; i < 20; i++) {
        gpuos_job_t job;
        uint64_t memory;
        OK(gpuos_job_begin(class, stream, &job));
        OK(gpuos_job_alloc(job, 1000, 0, &memory));
        OK(gpuos_job_host_launch(stream, nap, &count));
        OK(gpuos_job_submit(job));
        OK(gpuos_job_wait(job, GPUOS_JOB_FOREVER));
        assert(count == i + 1);
        struct gpuos_job_info info = {.size = sizeof info};
        OK(gpuos_job_get_info(job, &info));
        assert(info.state == GPUOS_JOB_STATE_DONE && info.known > info.submitted);
        OK(gpuos_job_end(job));
        assert(gpuos_job_end(job) == GPUOS_JOB_STATUS_STALE);
    }

    /* A loop with a descriptor. */
    int fd;
    OK(gpuos_job_fd(context, &fd));
    gpuos_job_t job, ended[4];
    OK(gpuos_job_begin(class, stream, &job));
    OK(gpuos_job_host_launch(stream, nap, &count));
    OK(gpuos_job_submit(job));
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    size_t many = 0;
    while (many == 0) {
        assert(poll(&polled, 1, 10000) == 1);
        OK(gpuos_job_poll(context, ended, 4, &many));
    }
    assert(many == 1 && ended[0] == job);
    OK(gpuos_job_end(job));
    uint64_t deadline;
    OK(gpuos_job_next_deadline(context, &deadline));
    assert(deadline == GPUOS_JOB_FOREVER);

    struct gpuos_job_stats stats = {.size = sizeof stats};
    OK(gpuos_job_class_stats(class, &stats));
    assert(stats.begun == 21 && stats.done == 21 && stats.growths == 1 && stats.size == sizeof stats);
    uint64_t trimmed;
    OK(gpuos_job_class_trim(class, &trimmed));
    assert(trimmed > 0);

    /* A program that was built with a shorter structure, and one with a longer. */
    struct gpuos_job_stats shorter;
    memset(&shorter, 0x55, sizeof shorter);
    shorter.size = 24;
    OK(gpuos_job_class_stats(class, &shorter));
    assert(shorter.begun == 21 && shorter.done == 21 && shorter.failed == 0x5555555555555555u);
    struct {
        struct gpuos_job_class_options known;
        uint64_t later;
    } longer = {.known = {.size = sizeof longer}, .later = 0};
    gpuos_job_class_t other;
    OK(gpuos_job_class_open(context, &longer.known, &other));
    OK(gpuos_job_class_close(other));
    longer.later = 1;
    assert(gpuos_job_class_open(context, &longer.known, &other) == GPUOS_JOB_STATUS_INVALID);
    struct gpuos_job_error error = {.size = sizeof error};
    OK(gpuos_job_last_error(&error));
    assert(error.status == GPUOS_JOB_STATUS_INVALID && strstr(error.text, "does not know"));

    /* What no function takes. */
    assert(gpuos_job_begin(class, stream, NULL) == GPUOS_JOB_STATUS_INVALID);
    assert(gpuos_job_begin(99, stream, &job) == GPUOS_JOB_STATUS_STALE);
    assert(gpuos_job_wait(0, 0) == GPUOS_JOB_STATUS_STALE);
    assert(gpuos_job_context_open(NULL, &context) == GPUOS_JOB_STATUS_INVALID);
    assert(strlen(gpuos_job_status_text(GPUOS_JOB_STATUS_STALE)) > 0 && strlen(gpuos_job_status_text(-5)) > 0);

    /* An error ends the job, and says which. */
    OK(gpuos_job_begin(class, stream, &job));
    OK(gpuos_job_host_launch(stream, fail, NULL));
    /* The work may have failed before the job is submitted. */
    int status = gpuos_job_submit(job);
    if (status == GPUOS_JOB_STATUS_OK) {
        status = gpuos_job_wait(job, GPUOS_JOB_FOREVER);
    }
    assert(status == GPUOS_JOB_STATUS_FAILED);
    OK(gpuos_job_get_error(job, &error));
    assert(error.status == GPUOS_JOB_STATUS_FAILED && error.code == 7);
    OK(gpuos_job_end(job));

    OK(gpuos_job_class_close(class));
    OK(gpuos_job_host_close(stream));
    OK(gpuos_job_context_close(context));
    assert(gpuos_job_context_close(context) == GPUOS_JOB_STATUS_STALE);
    puts("ok");
    return 0;
}
