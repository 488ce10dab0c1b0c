// Sockets of one machine that keep messages apart and pass open files, and files that are memory: what Swift cannot import.
#ifndef CAIRN_LOCAL_SOCKET_H
#define CAIRN_LOCAL_SOCKET_H
#include <stdint.h>
#include <sys/types.h>

// A new file that is memory, of size 0, whose size can be sealed; -1 with errno set.
int cairn_memory_file(const char *name);

// From now on nobody can change the file's size: who maps it is never cut off. 0, or -1 with errno set.
int cairn_seal_size(int descriptor);

// Whether nobody can make the file shorter.
int cairn_is_size_sealed(int descriptor);

// A socket that listens at a path, for the users that `mode` lets write to it; -1 with errno set.
int cairn_listen(const char *path, uint32_t mode);

// A socket that is connected to one that listens at a path; -1 with errno set.
int cairn_connect(const char *path);

// The next connection of a listening socket; -1 with errno set.
int cairn_accept(int descriptor);

// How long a call to send or to receive waits at most. 0, or -1 with errno set.
int cairn_set_timeout(int descriptor, int milliseconds);

// Who is at the other end of a connection. 0, or -1 with errno set.
int cairn_peer(int descriptor, uint32_t *user, int32_t *process);

// Sends one message, with an open file unless `passed` is -1. 0, or -1 with errno set.
int cairn_send_message(int descriptor, const void *bytes, size_t count, int passed);

// Receives one message into `bytes`. How many bytes it has; 0 at the end of the connection; -1 with errno set: EMSGSIZE if it
// is longer than `capacity`. `passed` is the open file that came with it, or -1.
ssize_t cairn_receive_message(int descriptor, void *bytes, size_t capacity, int *passed);

#endif
