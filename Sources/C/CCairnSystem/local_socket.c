#define _GNU_SOURCE
#include "cairn_local_socket.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef __linux__

int cairn_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }

int cairn_seal_size(int descriptor) { return fcntl(descriptor, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW); }

int cairn_is_size_sealed(int descriptor) {
    int seals = fcntl(descriptor, F_GET_SEALS);
    return seals != -1 && (seals & F_SEAL_SHRINK) != 0;
}

static int address_of(const char *path, struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address->sun_path, path);
    return 0;
}

// Closes a descriptor without changing errno, and returns -1.
static int closed(int descriptor) {
    int reason = errno;
    close(descriptor);
    errno = reason;
    return -1;
}

int cairn_listen(const char *path, uint32_t mode) {
    struct sockaddr_un address;
    if (address_of(path, &address) != 0) return -1;
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (descriptor == -1) return -1;
    // Nobody can connect before listen, so nobody can with other rights than these.
    if (bind(descriptor, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, mode) != 0 ||
        listen(descriptor, 64) != 0)
        return closed(descriptor);
    return descriptor;
}

int cairn_connect(const char *path) {
    struct sockaddr_un address;
    if (address_of(path, &address) != 0) return -1;
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (descriptor == -1) return -1;
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) return closed(descriptor);
    return descriptor;
}

int cairn_accept(int descriptor) {
    int connection;
    do connection = accept4(descriptor, NULL, NULL, SOCK_CLOEXEC);
    while (connection == -1 && (errno == EINTR || errno == ECONNABORTED));
    return connection;
}

int cairn_set_timeout(int descriptor, int milliseconds) {
    struct timeval time = {milliseconds / 1000, (milliseconds % 1000) * 1000};
    if (setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0) return -1;
    return setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

int cairn_peer(int descriptor, uint32_t *user, int32_t *process) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *user = credentials.uid;
    *process = credentials.pid;
    return 0;
}

int cairn_send_message(int descriptor, const void *bytes, size_t count, int passed) {
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {(void *)bytes, count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed != -1) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = sizeof control.room;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &passed, sizeof(int));
    }
    ssize_t sent;
    do sent = sendmsg(descriptor, &message, MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    return sent == -1 ? -1 : 0;
}

ssize_t cairn_receive_message(int descriptor, void *bytes, size_t capacity, int *passed) {
    // Room for more open files than are taken, so that a peer that sends several leaves none open here.
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec part = {bytes, capacity};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.room};
    *passed = -1;
    ssize_t received;
    do received = recvmsg(descriptor, &message, MSG_CMSG_CLOEXEC);
    while (received == -1 && errno == EINTR);
    if (received == -1) return -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < count; index++) {
            int file;
            memcpy(&file, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
            if (*passed == -1) *passed = file;
            else close(file);
        }
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        if (*passed != -1) close(*passed);
        *passed = -1;
        errno = EMSGSIZE;
        return -1;
    }
    return received;
}

#else

static int unsupported(void) {
    errno = ENOTSUP;
    return -1;
}

int cairn_memory_file(const char *name) { (void)name; return unsupported(); }
int cairn_seal_size(int descriptor) { (void)descriptor; return unsupported(); }
int cairn_is_size_sealed(int descriptor) { (void)descriptor; return 0; }
int cairn_listen(const char *path, uint32_t mode) { (void)path; (void)mode; return unsupported(); }
int cairn_connect(const char *path) { (void)path; return unsupported(); }
int cairn_accept(int descriptor) { (void)descriptor; return unsupported(); }
int cairn_set_timeout(int descriptor, int milliseconds) { (void)descriptor; (void)milliseconds; return unsupported(); }
int cairn_peer(int descriptor, uint32_t *user, int32_t *process) {
    (void)descriptor; (void)user; (void)process;
    return unsupported();
}
int cairn_send_message(int descriptor, const void *bytes, size_t count, int passed) {
    (void)descriptor; (void)bytes; (void)count; (void)passed;
    return unsupported();
}
ssize_t cairn_receive_message(int descriptor, void *bytes, size_t capacity, int *passed) {
    (void)descriptor; (void)bytes; (void)capacity; (void)passed;
    return unsupported();
}

#endif
