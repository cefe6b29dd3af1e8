/* Which system calls a filter lets through, without making any: on top of it comes one of our own that asks a supervisor
   about every call, and the supervisor answers each with an error of its own. What the filter refuses outranks that
   (seccomp(2), "the highest precedence action"), so the supervisor is only asked about what is allowed.

   Reads lines "CONVENTION NUMBER ARGUMENT ARGUMENT" (x86_64's name for the native one: native, x32, i386) and answers
   each with "allowed", "errno N" or "signal N". Static, so that it runs in any root. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 16384, ALLOWED = 4000, MAGIC = 0x5eccf00d };

struct call { char convention; unsigned long number, first, second; };
struct shared { volatile int current; volatile int result[MOST]; };

static struct call calls[MOST];
static int count;

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        _exit(1);
    }
}


static long make(const struct call *call) {
    if (call->convention == 'i') {
#ifdef __x86_64__
        long result;
        __asm__ volatile("int $0x80"
                         : "=a"(result)
                         : "a"(call->number), "b"(call->first), "c"(call->second), "d"(0L), "S"(0L), "D"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        return result < 0 && result > -4096 ? -result : 0;
#else
        raise(SIGSYS);
#endif
    }
    unsigned long number = call->number | (call->convention == 'x' ? 0x40000000UL : 0);
    errno = 0;
    return syscall(number, call->first, call->second, 0L, 0L, 0L, 0L) < 0 ? errno : 0;
}

static void test(struct shared *shared, int from, int line) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAGIC, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    must(listener >= 0, "seccomp");
    char space[CMSG_SPACE(sizeof listener)] = {0}, byte = 0;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(header), &listener, sizeof listener);
    if (syscall(SYS_sendmsg, line, &message, 0L, 0L, 0L, (long)MAGIC) == 1) {
        syscall(SYS_close, listener, 0L, 0L, 0L, 0L, (long)MAGIC);
        for (int at = from; at < count; at++) {
            shared->current = at;
            shared->result[at] = make(&calls[at]);
        }
        shared->current = count;
    }
    syscall(SYS_exit_group, 0L, 0L, 0L, 0L, 0L, (long)MAGIC);
}

static int receive(int line) {
    int listener = -1;
    char space[CMSG_SPACE(sizeof listener)], byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    must(recvmsg(line, &message, 0) == 1, "receive the listener");
    memcpy(&listener, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof listener);
    return listener;
}

/* Answer until the tester has ended. */
static void supervise(int listener) {
    struct pollfd poller = {listener, POLLIN, 0};
    while (poll(&poller, 1, -1) > 0 && !(poller.revents & POLLHUP)) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked)) continue;
        struct seccomp_notif_resp answer = {.id = asked.id, .error = -ALLOWED};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
}

int main(void) {
    while (count < MOST && scanf(" %c%*s %lu %lu %lu", &calls[count].convention, &calls[count].number,
                                 &calls[count].first, &calls[count].second) == 4)
        count++;
    struct shared *shared = mmap(0, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(shared != MAP_FAILED, "mmap");
    for (int from = 0; from < count;) {
        int line[2], status;
        must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, line), "socketpair");
        pid_t tester = fork();
        if (!tester) test(shared, from, line[1]);
        int listener = receive(line[0]);
        supervise(listener);
        must(waitpid(tester, &status, 0) == tester, "wait");
        close(listener), close(line[0]), close(line[1]);
        from = shared->current;
        if (WIFSIGNALED(status)) {
            shared->result[from++] = -WTERMSIG(status);
        }
    }
    for (int at = 0; at < count; at++) {
        int result = shared->result[at];
        if (result < 0) printf("signal %d\n", -result);
        else if (result == ALLOWED) puts("allowed");
        else printf("errno %d\n", result);
    }
    return 0;
}
