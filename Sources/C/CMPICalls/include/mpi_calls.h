// The calls of MPI that CairnMPI makes, without the types and macros of mpi.h, which differ between implementations and
// which Swift cannot import.
//
// Communicators are Fortran handles. Every function returns the error code of MPI, which is 0 for success.
#pragma once
#include <stdint.h>

// 0 before MPI_Init, 1 after it, 2 after MPI_Finalize.
int cairn_mpi_state(void);

// Starts MPI for calls from several threads; `has_threads` says whether the library can do that.
int cairn_mpi_start(int *has_threads);
int cairn_mpi_finish(void);

// Ends every process of the job.
void cairn_mpi_abort(int exit_status);

// Copies the text of an error, with its terminating zero.
void cairn_mpi_error_text(int error, char *text, int capacity);

// The communicator of all processes.
int cairn_mpi_world(void);
int cairn_mpi_rank(int communicator, int *rank);
int cairn_mpi_size(int communicator, int *size);

// A communicator whose errors come back as codes.
int cairn_mpi_split(int communicator, int color, int key, int *result);

// Every process contributes `count` words and gets those of all, in rank order.
int cairn_mpi_all_gather_words(int communicator, const int64_t *own, int64_t *all, int count);

// Broadcasts `count` bytes, at most `piece` in one call of MPI.
int cairn_mpi_broadcast(int communicator, void *buffer, int64_t count, int64_t piece, int root);

// Bytes that go to a rank or come from it.
typedef struct {
    void *base;
    int64_t count;
    int rank;
} cairn_mpi_part;

// Sends and receives all parts at once and returns when all are through. Both sides know the counts.
int cairn_mpi_exchange(int communicator, const cairn_mpi_part *sends, int send_count, const cairn_mpi_part *receives,
                       int receive_count, int64_t piece);

// Begins to send. The buffer must stay until `cairn_mpi_send_test` says that it is done, which frees the request.
int cairn_mpi_send_start(int communicator, const void *buffer, int count, int rank, int tag, void **request);
int cairn_mpi_send_test(void *request, int *is_done);

// Waits for a message, gives its length, and keeps it for `cairn_mpi_receive_take`, which frees the message.
int cairn_mpi_receive_probe(int communicator, int rank, int tag, void **message, int *count);
int cairn_mpi_receive_take(void *message, void *buffer, int count);
