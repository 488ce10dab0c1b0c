#include "mpi_calls.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int cairn_mpi_state(void) {
    int is_started = 0, is_finished = 0;
    MPI_Initialized(&is_started);
    MPI_Finalized(&is_finished);
    return is_finished ? 2 : is_started ? 1 : 0;
}

int cairn_mpi_start(int *has_threads) {
    int provided = MPI_THREAD_SINGLE;
    int error = MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    if (error != MPI_SUCCESS) return error;
    *has_threads = provided >= MPI_THREAD_MULTIPLE;
    return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

int cairn_mpi_finish(void) { return MPI_Finalize(); }

void cairn_mpi_abort(int exit_status) { MPI_Abort(MPI_COMM_WORLD, exit_status); }

void cairn_mpi_error_text(int error, char *text, int capacity) {
    char full[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (MPI_Error_string(error, full, &length) != MPI_SUCCESS) snprintf(full, sizeof full, "error %d", error);
    snprintf(text, (size_t)capacity, "%s", full);
}

int cairn_mpi_world(void) { return (int)MPI_Comm_c2f(MPI_COMM_WORLD); }

int cairn_mpi_rank(int communicator, int *rank) { return MPI_Comm_rank(MPI_Comm_f2c(communicator), rank); }

int cairn_mpi_size(int communicator, int *size) { return MPI_Comm_size(MPI_Comm_f2c(communicator), size); }

int cairn_mpi_split(int communicator, int color, int key, int *result) {
    MPI_Comm made = MPI_COMM_NULL;
    int error = MPI_Comm_split(MPI_Comm_f2c(communicator), color, key, &made);
    if (error != MPI_SUCCESS) return error;
    *result = (int)MPI_Comm_c2f(made);
    return MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN);
}

int cairn_mpi_all_gather_words(int communicator, const int64_t *own, int64_t *all, int count) {
    return MPI_Allgather(own, count, MPI_INT64_T, all, count, MPI_INT64_T, MPI_Comm_f2c(communicator));
}

int cairn_mpi_broadcast(int communicator, void *buffer, int64_t count, int64_t piece, int root) {
    char *base = buffer;
    for (int64_t begin = 0; begin < count; begin += piece) {
        int length = (int)(count - begin < piece ? count - begin : piece);
        int error = MPI_Bcast(base + begin, length, MPI_BYTE, root, MPI_Comm_f2c(communicator));
        if (error != MPI_SUCCESS) return error;
    }
    return MPI_SUCCESS;
}

static int64_t pieces_of(const cairn_mpi_part *parts, int part_count, int64_t piece) {
    int64_t total = 0;
    for (int index = 0; index < part_count; index++) total += parts[index].count / piece + 1;
    return total;
}

int cairn_mpi_exchange(int communicator, const cairn_mpi_part *sends, int send_count, const cairn_mpi_part *receives,
                       int receive_count, int64_t piece) {
    MPI_Comm target = MPI_Comm_f2c(communicator);
    int64_t capacity = pieces_of(sends, send_count, piece) + pieces_of(receives, receive_count, piece);
    if (capacity > INT32_MAX) return MPI_ERR_COUNT;
    MPI_Request *requests = malloc((size_t)(capacity + 1) * sizeof *requests);
    if (!requests) return MPI_ERR_NO_MEM;
    int begun = 0, error = MPI_SUCCESS;
    // Receives first, so that what arrives finds its place at once.
    for (int pass = 0; pass < 2 && error == MPI_SUCCESS; pass++) {
        const cairn_mpi_part *parts = pass == 0 ? receives : sends;
        int part_count = pass == 0 ? receive_count : send_count;
        for (int index = 0; index < part_count && error == MPI_SUCCESS; index++) {
            const cairn_mpi_part *part = &parts[index];
            for (int64_t begin = 0; begin < part->count && error == MPI_SUCCESS; begin += piece) {
                int length = (int)(part->count - begin < piece ? part->count - begin : piece);
                char *base = (char *)part->base + begin;
                error = pass == 0 ? MPI_Irecv(base, length, MPI_BYTE, part->rank, 0, target, &requests[begun])
                                  : MPI_Isend(base, length, MPI_BYTE, part->rank, 0, target, &requests[begun]);
                if (error == MPI_SUCCESS) begun++;
            }
        }
    }
    // After an error the memory may still be written to; the caller ends the job.
    if (error == MPI_SUCCESS) error = MPI_Waitall(begun, requests, MPI_STATUSES_IGNORE);
    free(requests);
    return error;
}

int cairn_mpi_send_start(int communicator, const void *buffer, int count, int rank, int tag, void **request) {
    MPI_Request *made = malloc(sizeof *made);
    if (!made) return MPI_ERR_NO_MEM;
    int error = MPI_Isend(buffer, count, MPI_BYTE, rank, tag, MPI_Comm_f2c(communicator), made);
    if (error != MPI_SUCCESS) {
        free(made);
        made = NULL;
    }
    *request = made;
    return error;
}

int cairn_mpi_send_test(void *request, int *is_done) {
    int error = MPI_Test(request, is_done, MPI_STATUS_IGNORE);
    if (error == MPI_SUCCESS && *is_done) free(request);
    return error;
}

int cairn_mpi_receive_probe(int communicator, int rank, int tag, void **message, int *count) {
    MPI_Message *made = malloc(sizeof *made);
    if (!made) return MPI_ERR_NO_MEM;
    MPI_Status status;
    int error = MPI_Mprobe(rank, tag, MPI_Comm_f2c(communicator), made, &status);
    if (error == MPI_SUCCESS) error = MPI_Get_count(&status, MPI_BYTE, count);
    if (error != MPI_SUCCESS) {
        free(made);
        made = NULL;
    }
    *message = made;
    return error;
}

int cairn_mpi_receive_take(void *message, void *buffer, int count) {
    int error = MPI_Mrecv(buffer, count, MPI_BYTE, message, MPI_STATUS_IGNORE);
    free(message);
    return error;
}
