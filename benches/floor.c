/* The floor: what the kernel alone charges for starting a program in a container of its own.
 *
 *     floor ROOT SCRATCH COMMAND [ARGUMENT...]
 *
 * makes the system calls that no such start can do without, and nothing else: a clone with seven new namespaces, the id
 * maps, overlay on ROOT with SCRATCH/{upper,work,merged}, the API file systems, six devices, pivot_root, exec. No
 * capabilities, no seccomp filter, no state on disk, no cgroup, no monitor, no network device. Exits as COMMAND does.
 *
 * FLOOR_UIDS and FLOOR_GIDS ("0 1000 1 1 100000 65536") are what newuidmap(1) and newgidmap(1) are given; without them
 * the caller's own id alone is mapped. As root there is no user namespace.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int fine, const char *what)
{
	if (!fine) {
		perror(what);
		_exit(125);
	}
}

static void put(pid_t pid, const char *file, const char *format, ...)
{
	char path[64], text[128];
	va_list values;
	va_start(values, format);
	int length = vsnprintf(text, sizeof text, format, values);
	va_end(values);
	snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	must(fd >= 0 && write(fd, text, length) == length && !close(fd), path);
}

/* Start `tool PID RANGES...` without waiting for it. */
static pid_t map(const char *tool, pid_t child, const char *ranges)
{
	char number[16], words[256], *arguments[32] = { (char *)tool, number };
	snprintf(number, sizeof number, "%d", child);
	snprintf(words, sizeof words, "%s", ranges);
	int count = 2;
	for (char *word = strtok(words, " "); word && count < 31; word = strtok(NULL, " "))
		arguments[count++] = word;
	pid_t pid = vfork();
	must(pid >= 0, "vfork");
	if (!pid) {
		execv(tool, arguments);
		_exit(127);
	}
	return pid;
}

static void reap(pid_t pid, const char *what)
{
	int status;
	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status), what);
}

static void mount_at(const char *kind, const char *at, unsigned long flags, const char *options)
{
	must(!mount(kind, at, kind, flags, options), at);
}

/* Process 1 of the container: root of the new namespaces once its parent wrote the maps. */
static void inside(int mapped, int rootless, const char *root, const char *scratch, char **command)
{
	char byte, options[4096];
	must(read(mapped, &byte, 1) == 1, "wait for the maps");
	must(!setresgid(0, 0, 0) && !setresuid(0, 0, 0), "become root");
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");

	must(!chdir(scratch), scratch);
	const char *format = "%slowerdir=%s,upperdir=upper,workdir=work";
	snprintf(options, sizeof options, format, rootless ? "userxattr," : "", root);
	mount_at("overlay", "merged", 0, options);
	must(!chdir("merged"), "merged");

	unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	mount_at("proc", "proc", safe, NULL);
	mount_at("tmpfs", "dev", MS_NOSUID, "mode=755,size=65536k");
	const char *nodes[] = { "null", "zero", "full", "random", "urandom", "tty" };
	for (int i = 0; i < 6; i++) {
		char from[32], to[32];
		snprintf(from, sizeof from, "/dev/%s", nodes[i]);
		snprintf(to, sizeof to, "dev/%s", nodes[i]);
		int fd = open(to, O_CREAT | O_CLOEXEC, 0666);
		must(fd >= 0 && !close(fd) && !mount(from, to, NULL, MS_BIND, NULL), to);
	}
	must(!mkdir("dev/pts", 0755) && !mkdir("dev/shm", 01777) && !mkdir("dev/mqueue", 0755), "dev");
	mount_at("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	mount_at("tmpfs", "dev/shm", safe, "mode=1777,size=65536k");
	mount_at("mqueue", "dev/mqueue", safe, NULL);
	must(!symlink("pts/ptmx", "dev/ptmx"), "dev/ptmx");
	mount_at("sysfs", "sys", safe | MS_RDONLY, NULL);

	must(!sethostname("floor", 5), "sethostname");
	must(!syscall(SYS_pivot_root, ".", ".") && !umount2(".", MNT_DETACH) && !chdir("/"), "pivot_root");
	execvp(command[0], command);
	perror(command[0]);
	_exit(127);
}

int main(int count, char **words)
{
	if (count < 4) {
		fprintf(stderr, "usage: floor ROOT SCRATCH COMMAND [ARGUMENT...]\n");
		return 125;
	}
	uid_t uid = getuid();
	gid_t gid = getgid();
	int mapped[2];
	must(!pipe2(mapped, O_CLOEXEC), "pipe");
	struct clone_args clone = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP |
			 (uid ? CLONE_NEWUSER : 0),
		.exit_signal = SIGCHLD,
	};
	pid_t child = syscall(SYS_clone3, &clone, sizeof clone);
	must(child >= 0, "clone3");
	if (!child)
		inside(mapped[0], uid != 0, words[1], words[2], words + 3);

	const char *uids = getenv("FLOOR_UIDS"), *gids = getenv("FLOOR_GIDS");
	if (uid && uids && gids) {
		pid_t one = map("/usr/bin/newuidmap", child, uids), other = map("/usr/bin/newgidmap", child, gids);
		reap(one, "newuidmap");
		reap(other, "newgidmap");
	} else if (uid) {
		put(child, "setgroups", "deny");
		put(child, "uid_map", "0 %u 1", uid);
		put(child, "gid_map", "0 %u 1", gid);
	}
	must(write(mapped[1], "", 1) == 1, "write to the child");
	int status;
	must(waitpid(child, &status, 0) == child, "wait for the child");
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
