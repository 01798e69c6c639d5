/* A server in one thread: sockets and jobs in one epoll loop, by deadline, without a thread and without a descriptor for jobs.
 * A client sends a byte; it gets one back when the job that the byte began has ended. On the host runtime a job sleeps for 1 ms;
 * with CUDA launch into a stream where `launch` is called.
 *   cc -I include examples/server.c -lgpuos_job -o server && ./server PATH_OF_A_UNIX_SOCKET REQUESTS */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "gpuos_job.h"

enum { CLIENTS = 64 };

static struct {
    int socket;
    gpuos_job_t job;
} flying[CLIENTS];

static int work(void *argument)
{
    struct timespec time = {0, 1000000};
    (void)argument;
    nanosleep(&time, NULL);
    return 0;
}

static void launch(void *stream)
{
    gpuos_job_host_launch(stream, work, NULL);
}

static void check(int status, const char *what)
{
    if (status != GPUOS_JOB_STATUS_OK) {
        struct gpuos_job_error error = {.size = sizeof error};
        gpuos_job_last_error(&error);
        fprintf(stderr, "server: %s: %s\n", what, error.text);
        exit(1);
    }
}

static void begin(gpuos_job_class_t requests, void *stream, int client)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (flying[i].job == 0) {
            check(gpuos_job_begin(requests, stream, &flying[i].job), "begin");
            flying[i].socket = client;
            launch(stream);
            check(gpuos_job_submit(flying[i].job), "submit");
            return;
        }
    }
    close(client);
}

int main(int count, char **words)
{
    if (count != 3) {
        fprintf(stderr, "usage: server SOCKET REQUESTS\n");
        return 2;
    }
    struct gpuos_job_context_options options = {.size = sizeof options, .runtime = GPUOS_JOB_RUNTIME_HOST};
    struct gpuos_job_class_options of_class = {.size = sizeof of_class, .label = "requests"};
    gpuos_job_context_t context;
    gpuos_job_class_t requests;
    void *stream;
    check(gpuos_job_context_open(&options, &context), "context");
    check(gpuos_job_class_open(context, &of_class, &requests), "class");
    check(gpuos_job_host_open(&stream), "stream");

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, CLIENTS) != 0) {
        perror("server: listen");
        return 1;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    puts("ready");
    fflush(stdout);

    for (long left = atol(words[2]); left > 0;) {
        /* Until a socket has something, or a job is likely to have ended. */
        uint64_t deadline;
        check(gpuos_job_next_deadline(context, &deadline), "deadline");
        struct timespec now, *timeout = NULL, until;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t at = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        if (deadline != GPUOS_JOB_FOREVER) {
            uint64_t rest = deadline > at ? deadline - at : 0;
            until.tv_sec = (time_t)(rest / 1000000000u);
            until.tv_nsec = (long)(rest % 1000000000u);
            timeout = &until;
        }
        struct epoll_event events[CLIENTS];
        int many = epoll_pwait2(epoll, events, CLIENTS, timeout, NULL);
        for (int i = 0; i < many; i++) {
            if (events[i].data.fd == listener) {
                event.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            char byte;
            if (read(events[i].data.fd, &byte, 1) == 1) {
                begin(requests, stream, events[i].data.fd);
            } else {
                close(events[i].data.fd);
            }
        }
        gpuos_job_t ended[CLIENTS];
        size_t known;
        check(gpuos_job_poll(context, ended, CLIENTS, &known), "poll");
        for (size_t i = 0; i < known; i++) {
            for (int j = 0; j < CLIENTS; j++) {
                if (flying[j].job == ended[i]) {
                    if (write(flying[j].socket, "d", 1) != 1) {
                        perror("server: write");
                    }
                    check(gpuos_job_end(flying[j].job), "end");
                    flying[j].job = 0;
                    left--;
                }
            }
        }
    }
    struct gpuos_job_stats stats = {.size = sizeof stats};
    check(gpuos_job_class_stats(requests, &stats), "stats");
    printf("served %llu\n", (unsigned long long)stats.done);
    gpuos_job_class_close(requests);
    gpuos_job_host_close(stream);
    return gpuos_job_context_close(context);
}
