/* What a payload can do: each first argument names an attempt, each line of output says how it ended. Static, so that it
   runs in any root. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *name(long result) { return result >= 0 ? "OK" : strerrorname_np(errno); }

static void say(const char *what, long result) { printf("%s %s\n", what, name(result)); }

/* In a child of its own: what is granted changes nothing here. */
#define TRY(what, call)                                                \
    do {                                                               \
        fflush(stdout);                                                \
        pid_t child = fork();                                          \
        if (child == 0) {                                              \
            errno = 0;                                                 \
            long result = (long)(call);                                \
            say(what, result);                                         \
            fflush(stdout);                                            \
            _exit(0);                                                  \
        }                                                              \
        int status;                                                    \
        waitpid(child, &status, 0);                                    \
        if (WIFSIGNALED(status)) printf("%s signal %d\n", what, WTERMSIG(status)); \
    } while (0)

static long raw_clone(unsigned long flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) _exit(0);
    return child;
}

static long i386_getpid(void) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result;
#else
    raise(SIGSYS);
    return 0;
#endif
}

static long x32_getpid(void) {
#ifdef __x86_64__
    return syscall(0x40000000 | SYS_getpid);
#else
    raise(SIGSYS);
    return 0;
#endif
}

static void syscalls(void) {
    char zeros[256] = {0};
    TRY("unshare-user", syscall(SYS_unshare, CLONE_NEWUSER));
    TRY("unshare-mount", syscall(SYS_unshare, CLONE_NEWNS));
    TRY("clone-user", raw_clone(CLONE_NEWUSER));
    TRY("clone3", syscall(SYS_clone3, zeros, 64));
    TRY("setns", syscall(SYS_setns, 0, 0));
    TRY("mount", syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0));
    TRY("umount", syscall(SYS_umount2, "/proc/sys", MNT_DETACH));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("move_mount", syscall(SYS_move_mount, -1, "", -1, "", 0));
    TRY("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    TRY("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
    TRY("add_key", syscall(SYS_add_key, "user", "x", "x", 1, KEY_SPEC_PROCESS_KEYRING));
    TRY("request_key", syscall(SYS_request_key, "user", "x", 0, 0));
    TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, zeros));
    TRY("io_uring_enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0));
    TRY("bpf", syscall(SYS_bpf, 0, zeros, 64));
    TRY("perf_event_open", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 1));
    TRY("open_by_handle_at", syscall(SYS_open_by_handle_at, AT_FDCWD, zeros, 0));
    TRY("init_module", syscall(SYS_init_module, zeros, 0, ""));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY("swapon", syscall(SYS_swapon, "/none", 0));
    TRY("acct", syscall(SYS_acct, 0));
    TRY("personality", syscall(SYS_personality, 0x0400000));
    TRY("pidfd_getfd", syscall(SYS_pidfd_getfd, -1, 0, 0));
    TRY("socket-alg", socket(38, SOCK_SEQPACKET, 0));
    TRY("socket-vsock", socket(40, SOCK_STREAM, 0));
    TRY("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    TRY("tiocsti", ioctl(0, TIOCSTI, "x"));
    TRY("tiocsti-wide", syscall(SYS_ioctl, 0, 0x100000000UL | TIOCSTI, "x"));
    TRY("tioclinux", ioctl(0, TIOCLINUX, "\2"));
    TRY("i386", i386_getpid());
    TRY("x32", x32_getpid());
}

static int writable(const char *path, const struct stat *stat, int kind, struct FTW *ftw) {
    (void)stat, (void)ftw;
    int file = kind == FTW_F ? open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY) : -1;
    if (file >= 0) printf("%s\n", path), close(file);
    return 0;
}

static long connected(int family, struct sockaddr *to, socklen_t length) {
    int fd = socket(family, SOCK_STREAM, 0);
    return fd < 0 ? fd : connect(fd, to, length);
}

/* A socket for ADDRESS and PORT, where whoever waits does so for a second. */
static int to(const char *address, const char *port, int kind, struct sockaddr_storage *there) {
    struct sockaddr_in *four = (void *)there;
    struct sockaddr_in6 *six = (void *)there;
    memset(there, 0, sizeof *there);
    four->sin_family = strchr(address, ':') ? AF_INET6 : AF_INET;
    four->sin_port = htons(atoi(port));
    void *place = four->sin_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr;
    if (inet_pton(four->sin_family, address, place) != 1) exit(3);
    struct timeval second = {.tv_sec = 1};
    int fd = socket(four->sin_family, kind, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    return fd;
}

static socklen_t length(const struct sockaddr_storage *of) {
    return of->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "", *value = argc > 2 ? argv[2] : "";
    setvbuf(stdout, 0, _IOFBF, 1 << 16);
    if (!strcmp(what, "syscalls")) {
        syscalls();
    } else if (!strcmp(what, "fds")) {
        for (int fd = 0; fd < 4096; fd++)
            if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
        printf("\n");
    } else if (!strcmp(what, "writable")) {
        for (int i = 2; i < argc; i++) nftw(argv[i], writable, 64, FTW_PHYS);
    } else if (!strcmp(what, "tcp")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(value))};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        say("tcp", connected(AF_INET, (struct sockaddr *)&to, sizeof to));
    } else if (!strcmp(what, "connect")) {
        /* connect ADDRESS PORT */
        struct sockaddr_storage there;
        int fd = to(value, argv[3], SOCK_STREAM, &there);
        say(value, connect(fd, (void *)&there, length(&there)));
    } else if (!strcmp(what, "send")) {
        /* send ADDRESS PORT TEXT SOURCE: a datagram. */
        struct sockaddr_storage there, here;
        int fd = to(value, argv[3], SOCK_DGRAM, &there);
        close(to(argv[5], "0", SOCK_DGRAM, &here));
        if (bind(fd, (void *)&here, length(&here)) < 0) return 4;
        say("send", sendto(fd, argv[4], strlen(argv[4]), 0, (void *)&there, length(&there)));
    } else if (!strcmp(what, "receive")) {
        /* receive PORT: the first datagram. */
        struct sockaddr_storage here;
        int fd = to("0.0.0.0", value, SOCK_DGRAM, &here);
        if (bind(fd, (void *)&here, length(&here)) < 0) return 4;
        puts("up");
        fflush(stdout);
        char text[64] = {0};
        long got = recv(fd, text, sizeof text - 1, 0);
        say(text, got);
    } else if (!strcmp(what, "abstract")) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        memcpy(to.sun_path + 1, value, strlen(value));
        say("abstract", connected(AF_UNIX, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(value)));
    } else if (!strcmp(what, "order")) {
        /* order SOCKET MESSAGE: whether whoever listens there does as it is told. */
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, value, sizeof to.sun_path - 1);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        char answer[4096];
        int heard = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 && send(fd, argv[3], strlen(argv[3]), MSG_NOSIGNAL) > 0 &&
                    recv(fd, answer, sizeof answer, 0) > 0;
        printf("order %s\n", heard ? "obeyed" : "refused");
    } else if (!strcmp(what, "with-key")) {
        /* with-key NAME COMMAND...: COMMAND in a session keyring that holds the key. */
        syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
        if (syscall(SYS_add_key, "user", value, "secret", 6, KEY_SPEC_SESSION_KEYRING) < 0) return 1;
        execvp(argv[3], argv + 3);
        return 1;
    } else if (!strcmp(what, "key")) {
        say("key", syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", value, 0));
    } else if (!strcmp(what, "peek")) {
        /* peek WORD...: which files of each process that appears from now on hold a word, as long as it is there. */
        const char *files[] = {"net/unix", "mountinfo", "cmdline"};
        static char text[1 << 20];
        setlinebuf(stdout);
        puts("up");
        for (int newest = getpid();;)
            for (int pid = newest + 1; pid < newest + 16; pid++)
                for (int n = 0; n < 3; n++) {
                    char path[64];
                    snprintf(path, sizeof path, "/proc/%d/%s", pid, files[n]);
                    int fd = open(path, O_RDONLY);
                    if (fd < 0) break;
                    size_t length = 0;
                    for (ssize_t more; length < sizeof text && (more = read(fd, text + length, sizeof text - length)) > 0;)
                        length += more;
                    close(fd);
                    for (int i = 2; i < argc; i++)
                        if (memmem(text, length, argv[i], strlen(argv[i]))) printf("%s %s\n", files[n], argv[i]);
                    if (n == 2 && pid > newest) newest = pid;
                }
    } else if (!strcmp(what, "outlive")) {
        /* What every entrypoint that gives up root does, on purpose or not: it is no longer told of its parent's death. */
        prctl(PR_SET_PDEATHSIG, 0);
        printf("ready\n");
        fflush(stdout);
        for (;;) pause();
    } else {
        return 2;
    }
    return 0;
}
