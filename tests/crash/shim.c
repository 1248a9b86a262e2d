/* shim: counts the calls that change files in one folder, and makes the N-th of them a fault.
 *
 * Loaded by LD_PRELOAD. Its orders lie in a file that all processes of a trial map (BIMODAL_SHIM names it), so that the
 * test that gives them and a process that was forked long before see the same. While `armed` is zero nothing is done.
 * The log that it writes on demand holds every call with its data: `disk.py` builds from it what a power cut leaves.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, SYNC, DATASYNC, RENAME, UNLINK, LINK, TRUNCATE, CREATE, MKDIR, RMDIR, ALLOCATE, SEND, KINDS };
enum fault { COUNT, KILL_BEFORE, KILL_AFTER, KILL_HALF, FAIL, SHORT, CUT, SIGNAL };

/* Read and written by `harness.Orders`, in this order. */
struct orders {
    _Atomic int64_t armed;
    _Atomic int64_t count;  /* calls of the kinds asked for so far */
    _Atomic int64_t fired;  /* faults so far */
    int64_t at;             /* the call that becomes a fault, from 1; 0: none */
    int64_t fault;
    int64_t error;          /* what FAIL sets errno to; the number of SIGNAL */
    int64_t persistent;     /* from that call on, not once */
    int64_t kinds;          /* bit mask of what counts */
    int64_t budget;         /* bytes that the folder's files may have together; -1: any */
    int64_t record;         /* write the log */
    char folder[1024];
    char log[1024];
};

struct entry {  /* of the log, followed by the two paths and the data */
    int64_t kind, error, inode, offset, length, changed, path, other;
};

static struct orders *orders;
static int log_file = -1;
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;

static void begin_child(void) { pthread_mutex_init(&one, NULL); log_file = -1; }

__attribute__((constructor)) static void begin(void)
{
    const char *place = getenv("BIMODAL_SHIM");
    if (!place)
        return;
    int file = syscall(SYS_openat, AT_FDCWD, place, O_RDWR | O_CLOEXEC, 0);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof *orders, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (found != MAP_FAILED)
        orders = found;
    pthread_atfork(NULL, NULL, begin_child);
}

/* -- which files ------------------------------------------------------------------------------------------------ */

static int inside(const char *path)
{
    size_t length = strlen(orders->folder);
    return length && !strncmp(path, orders->folder, length) && (path[length] == '/' || !path[length]);
}

static void path_of(int file, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

static void path_at(int folder, const char *name, char *path)
{
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    char base[PATH_MAX];
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0)
            base[0] = 0;
    } else
        path_of(folder, base);
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
        path[0] = 0;
}

/* The bytes of all files in a folder. */
static int64_t used(const char *folder)
{
    int64_t total = 0;
    DIR *open_folder = opendir(folder);
    if (!open_folder)
        return 0;
    for (struct dirent *each; (each = readdir(open_folder));) {
        char path[PATH_MAX];
        struct stat status;
        if (!strcmp(each->d_name, ".") || !strcmp(each->d_name, ".."))
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, each->d_name) >= (int)sizeof path || lstat(path, &status))
            continue;
        total += S_ISDIR(status.st_mode) ? used(path) : status.st_size;
    }
    closedir(open_folder);
    return total;
}

/* -- the log ---------------------------------------------------------------------------------------------------- */

static void put(const void *data, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t now = syscall(SYS_write, log_file, (const char *)data + done, length - done);
        if (now <= 0)
            abort();
        done += now;
    }
}

static void tell(enum kind kind, int error, int64_t inode, int64_t offset, int64_t length, int64_t changed,
                 const char *path, const char *other, const void *data)
{
    if (!orders->record)
        return;
    if (log_file < 0)
        log_file = syscall(SYS_openat, AT_FDCWD, orders->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_file < 0)
        abort();
    struct entry entry = {kind, error, inode, offset, length, changed, (int64_t)strlen(path), (int64_t)strlen(other)};
    put(&entry, sizeof entry);
    put(path, strlen(path));
    put(other, strlen(other));
    if (data && length)
        put(data, length);
}

static void status_of(int file, int64_t *inode, int64_t *size, int64_t *changed)
{
    struct stat status;
    *inode = *size = *changed = 0;
    if (fstat(file, &status))
        return;
    *inode = status.st_ino;
    *size = status.st_size;
    *changed = status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec;
}

static int64_t inode_at(const char *path)
{
    struct stat status;
    return lstat(path, &status) ? 0 : (int64_t)status.st_ino;
}

/* -- the fault -------------------------------------------------------------------------------------------------- */

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

/* Count a call: what is to happen to it, COUNT for nothing. */
static enum fault judge(enum kind kind)
{
    if (!(orders->kinds >> kind & 1))
        return COUNT;
    int64_t number = atomic_fetch_add(&orders->count, 1) + 1;
    if (!orders->at || number < orders->at || (number > orders->at && !orders->persistent))
        return COUNT;
    /* What is interrupted succeeds when it is called again, and some calls are never interrupted. */
    if (orders->fault == FAIL && orders->error == EINTR &&
        ((number - orders->at) % 2 || !(kind == WRITE || kind == SYNC || kind == DATASYNC || kind == CREATE)))
        return COUNT;
    atomic_fetch_add(&orders->fired, 1);
    if (orders->fault == KILL_BEFORE)
        die();
    if (orders->fault == SIGNAL) {
        syscall(SYS_kill, syscall(SYS_getpid), (int)orders->error);
        return COUNT;
    }
    return orders->fault;
}

#define ON (orders && atomic_load(&orders->armed))
#define LOCK int kept = errno; pthread_mutex_lock(&one); errno = kept
#define UNLOCK kept = errno; pthread_mutex_unlock(&one); errno = kept

/* How many of these bytes there is room for; -1: none at all. */
static ssize_t room(int64_t end, int64_t size, int64_t offset, size_t length)
{
    if (orders->budget < 0 || end <= size)
        return length;
    int64_t left = orders->budget - used(orders->folder), growth = end - size;
    if (growth <= left)
        return length;
    int64_t fits = size + (left > 0 ? left : 0) - offset;
    return fits > 0 ? fits : -1;
}

static ssize_t written(int file, const void *data, size_t length, int64_t place, int positioned)
{
    if (positioned)
        return syscall(SYS_pwrite64, file, data, length, place);
    return syscall(SYS_write, file, data, length);
}

static ssize_t do_write(int file, const void *data, size_t length, int64_t place, int positioned)
{
    char path[PATH_MAX];
    if (!ON)
        return written(file, data, length, place, positioned);
    path_of(file, path);
    if (!inside(path))
        return written(file, data, length, place, positioned);
    LOCK;
    int64_t inode, size, changed, offset = place;
    status_of(file, &inode, &size, &changed);
    if (!positioned)
        offset = syscall(SYS_fcntl, file, F_GETFL) & O_APPEND ? size : (int64_t)syscall(SYS_lseek, file, 0, SEEK_CUR);
    enum fault fault = judge(WRITE);
    ssize_t result = -1;
    if (fault == FAIL) {
        errno = orders->error;
        goto end;
    }
    if ((fault == SHORT || fault == KILL_HALF) && length > 1)
        length /= 2;
    ssize_t fits = room(offset + (int64_t)length, size, offset, length);
    if (fits < 0) {
        atomic_fetch_add(&orders->fired, 1);
        errno = ENOSPC;
        goto end;
    }
    result = written(file, data, fits, place, positioned);
    if (result > 0) {
        status_of(file, &inode, &size, &changed);
        tell(WRITE, 0, inode, offset, result, changed, path, "", data);
    }
    if (fault == KILL_AFTER || fault == KILL_HALF)
        die();
end:
    UNLOCK;
    return result;
}

ssize_t write(int file, const void *data, size_t length) { return do_write(file, data, length, 0, 0); }
ssize_t __write(int file, const void *data, size_t length) { return do_write(file, data, length, 0, 0); }
ssize_t pwrite(int file, const void *data, size_t length, off_t place) { return do_write(file, data, length, place, 1); }
ssize_t pwrite64(int file, const void *data, size_t length, off64_t place) { return do_write(file, data, length, place, 1); }

/* The pieces as one write, which is what the system makes of them too. */
static ssize_t do_writev(int file, const struct iovec *pieces, int count, int64_t place, int positioned)
{
    size_t total = 0, done = 0;
    for (int i = 0; i < count; i++)
        total += pieces[i].iov_len;
    char *whole = malloc(total ? total : 1);
    if (!whole) {
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < count; done += pieces[i++].iov_len)
        memcpy(whole + done, pieces[i].iov_base, pieces[i].iov_len);
    ssize_t result = do_write(file, whole, total, place, positioned);
    int kept = errno;
    free(whole);
    errno = kept;
    return result;
}

ssize_t writev(int file, const struct iovec *pieces, int count) { return do_writev(file, pieces, count, 0, 0); }
ssize_t pwritev(int file, const struct iovec *pieces, int count, off_t place) { return do_writev(file, pieces, count, place, 1); }
ssize_t pwritev64(int file, const struct iovec *pieces, int count, off64_t place) { return do_writev(file, pieces, count, place, 1); }

static int do_sync(int file, long number, enum kind kind)
{
    char path[PATH_MAX];
    if (!ON)
        return syscall(number, file);
    path_of(file, path);
    if (!inside(path))
        return syscall(number, file);
    LOCK;
    int64_t inode, size, changed;
    status_of(file, &inode, &size, &changed);
    enum fault fault = judge(kind);
    int result;
    if (fault == FAIL) {
        result = -1;
        errno = orders->error;
        if (errno != EINTR)
            tell(kind, errno, inode, 0, 0, changed, path, "", NULL);
        errno = orders->error;
    } else {
        result = syscall(number, file);
        tell(kind, result ? errno : 0, inode, 0, 0, changed, path, "", NULL);
    }
    if (fault == KILL_AFTER)
        die();
    UNLOCK;
    return result;
}

int fsync(int file) { return do_sync(file, SYS_fsync, SYNC); }
int fdatasync(int file) { return do_sync(file, SYS_fdatasync, DATASYNC); }

/* -- names ------------------------------------------------------------------------------------------------------ */

/* A call on one or two names: the fault before it, or the call, its line in the log, the fault after it. */
static int named(enum kind kind, long number, long a, long b, long c, long d, long e, const char *path, const char *other)
{
    LOCK;
    enum fault fault = judge(kind);
    int result;
    if (fault == FAIL) {
        result = -1;
        errno = orders->error;
        goto end;
    }
    struct stat status; /* a link to a file without a name goes by /proc */
    int64_t inode = kind == LINK && !stat(path, &status) ? (int64_t)status.st_ino : inode_at(path);
    result = syscall(number, a, b, c, d, e);
    if (!result) {
        if (kind == MKDIR)
            inode = inode_at(path);
        tell(kind, 0, inode, kind == RENAME ? e : 0, 0, 0, path, other, NULL); /* e: the flags, such as an exchange */
        errno = 0;
    }
    if (fault == KILL_AFTER)
        die();
end:
    UNLOCK;
    return result;
}

static int do_rename(int from, const char *old, int to, const char *new, unsigned flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    if (!ON)
        return syscall(SYS_renameat2, from, old, to, new, flags);
    path_at(from, old, path);
    path_at(to, new, other);
    if (!inside(path) && !inside(other))
        return syscall(SYS_renameat2, from, old, to, new, flags);
    return named(RENAME, SYS_renameat2, from, (long)old, to, (long)new, flags, path, other);
}

int rename(const char *old, const char *new) { return do_rename(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return do_rename(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return do_rename(from, old, to, new, flags); }

static int do_unlink(int folder, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!ON)
        return syscall(SYS_unlinkat, folder, name, flags);
    path_at(folder, name, path);
    if (!inside(path))
        return syscall(SYS_unlinkat, folder, name, flags);
    enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    return named(kind, SYS_unlinkat, folder, (long)name, flags, 0, 0, path, "");
}

int unlink(const char *name) { return do_unlink(AT_FDCWD, name, 0); }
int unlinkat(int folder, const char *name, int flags) { return do_unlink(folder, name, flags); }
int remove(const char *name)
{
    int result = do_unlink(AT_FDCWD, name, 0);
    return result && errno == EISDIR ? do_unlink(AT_FDCWD, name, AT_REMOVEDIR) : result;
}
int rmdir(const char *name) { return do_unlink(AT_FDCWD, name, AT_REMOVEDIR); }

static int do_link(int from, const char *old, int to, const char *new, int flags)
{
    char path[PATH_MAX], other[PATH_MAX];
    if (!ON)
        return syscall(SYS_linkat, from, old, to, new, flags);
    path_at(from, old, path);
    path_at(to, new, other);
    if (!inside(other))
        return syscall(SYS_linkat, from, old, to, new, flags);
    return named(LINK, SYS_linkat, from, (long)old, to, (long)new, flags, path, other);
}

int link(const char *old, const char *new) { return do_link(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) { return do_link(from, old, to, new, flags); }

static int do_mkdir(int folder, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!ON)
        return syscall(SYS_mkdirat, folder, name, mode);
    path_at(folder, name, path);
    if (!inside(path))
        return syscall(SYS_mkdirat, folder, name, mode);
    return named(MKDIR, SYS_mkdirat, folder, (long)name, mode, 0, 0, path, "");
}

int mkdir(const char *name, mode_t mode) { return do_mkdir(AT_FDCWD, name, mode); }
int mkdirat(int folder, const char *name, mode_t mode) { return do_mkdir(folder, name, mode); }

/* -- sizes ------------------------------------------------------------------------------------------------------ */

/* A file gets another size: by truncation, or by allocation (which never makes it smaller). */
static int do_size(int file, int64_t size, enum kind kind)
{
    char path[PATH_MAX];
    int64_t inode, now, changed;
    status_of(file, &inode, &now, &changed);
    int64_t wanted = kind == ALLOCATE && now > size ? now : size;
    if (!ON)
        return syscall(SYS_ftruncate, file, wanted);
    path_of(file, path);
    if (!inside(path))
        return syscall(SYS_ftruncate, file, wanted);
    LOCK;
    int result = -1;
    enum fault fault = judge(kind);
    if (fault == FAIL)
        errno = orders->error;
    else if (wanted > now && room(wanted, now, now, wanted - now) < wanted - now) {
        atomic_fetch_add(&orders->fired, 1);
        errno = ENOSPC;
    } else {
        result = syscall(SYS_ftruncate, file, wanted);
        if (!result) {
            status_of(file, &inode, &now, &changed);
            tell(TRUNCATE, 0, inode, 0, wanted, changed, path, "", NULL);
            errno = 0;
        }
        if (fault == KILL_AFTER)
            die();
    }
    UNLOCK;
    return result;
}

int ftruncate(int file, off_t size) { return do_size(file, size, TRUNCATE); }
int ftruncate64(int file, off64_t size) { return do_size(file, size, TRUNCATE); }
int posix_fallocate(int file, off_t place, off_t length) { return do_size(file, place + length, ALLOCATE) ? errno : 0; }
int posix_fallocate64(int file, off64_t place, off64_t length) { return do_size(file, place + length, ALLOCATE) ? errno : 0; }

static int do_truncate(const char *name, int64_t size)
{
    int file = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0);
    if (file < 0)
        return -1;
    int result = do_size(file, size, TRUNCATE), kept = errno;
    syscall(SYS_close, file);
    errno = kept;
    return result;
}

int truncate(const char *name, off_t size) { return do_truncate(name, size); }
int truncate64(const char *name, off64_t size) { return do_truncate(name, size); }

/* Copies within the system would pass unseen: their callers all know how to write instead. */
static ssize_t unseen(int to)
{
    char path[PATH_MAX];
    path_of(to, path);
    return ON && inside(path);
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t length, unsigned flags)
{
    if (unseen(to)) {
        errno = ENOSYS;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, a, to, b, length, flags);
}

ssize_t sendfile(int to, int from, off_t *place, size_t length)
{
    if (unseen(to)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sendfile, to, from, place, length);
}

ssize_t sendfile64(int to, int from, off64_t *place, size_t length) { return sendfile(to, from, place, length); }

int fallocate(int file, int mode, off_t place, off_t length)
{
    if (unseen(file)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return syscall(SYS_fallocate, file, mode, place, length);
}

int fallocate64(int file, int mode, off64_t place, off64_t length) { return fallocate(file, mode, place, length); }

/* -- new files -------------------------------------------------------------------------------------------------- */

static int do_open(int folder, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    if (!ON || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return syscall(SYS_openat, folder, name, flags, mode);
    path_at(folder, name, path);
    if (!inside(path))
        return syscall(SYS_openat, folder, name, flags, mode);
    LOCK;
    int result = -1;
    enum fault fault = judge(CREATE);
    if (fault == FAIL) {
        errno = orders->error;
        goto end;
    }
    int64_t before = inode_at(path);
    result = syscall(SYS_openat, folder, name, flags, mode);
    if (result >= 0) {
        int64_t inode, size, changed;
        status_of(result, &inode, &size, &changed);
        if (!before)
            tell(CREATE, 0, inode, 0, 0, changed, path, "", NULL);
        else if (flags & O_TRUNC)
            tell(TRUNCATE, 0, inode, 0, 0, changed, path, "", NULL);
        errno = 0;
    }
    if (fault == KILL_AFTER)
        die();
end:
    UNLOCK;
    return result;
}

#define OPEN(name)                                                                                                    \
    int name(const char *path, int flags, ...)                                                                        \
    {                                                                                                                 \
        va_list rest;                                                                                                 \
        va_start(rest, flags);                                                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                       \
        va_end(rest);                                                                                                 \
        return do_open(AT_FDCWD, path, flags, mode);                                                                  \
    }
#define OPEN_AT(name)                                                                                                 \
    int name(int folder, const char *path, int flags, ...)                                                            \
    {                                                                                                                 \
        va_list rest;                                                                                                 \
        va_start(rest, flags);                                                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                       \
        va_end(rest);                                                                                                 \
        return do_open(folder, path, flags, mode);                                                                    \
    }
OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int __open_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return do_open(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return do_open(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return do_open(folder, path, flags, 0); }

/* -- what a client sends to a server ---------------------------------------------------------------------------- */

static ssize_t do_send(int file, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    if (!ON || !(orders->kinds >> SEND & 1))
        return syscall(SYS_sendto, file, data, length, flags, to, size);
    LOCK;
    enum fault fault = judge(SEND);
    ssize_t result;
    if (fault == FAIL) {
        result = -1;
        errno = orders->error;
        goto end;
    }
    if ((fault == SHORT || fault == KILL_HALF) && length > 1)
        length /= 2;
    result = syscall(SYS_sendto, file, data, length, flags, to, size);
    if (fault == KILL_AFTER || fault == KILL_HALF)
        die();
    if (fault == CUT) /* it arrives; the answer does not */
        syscall(SYS_shutdown, file, SHUT_RDWR);
end:
    UNLOCK;
    return result;
}

ssize_t send(int file, const void *data, size_t length, int flags) { return do_send(file, data, length, flags, NULL, 0); }
ssize_t sendto(int file, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
    return do_send(file, data, length, flags, to, size);
}
