#pragma once
#include <hdf5.h>

// What of HDF5 is a macro that Swift cannot import, differs between its versions, or takes callbacks.

// What HDF5 takes bytes for: the header of an object, or a part of one; all else.
typedef enum { cairn_h5_header, cairn_h5_other_content } cairn_h5_content;

// Where a file's bytes come from and go to. Nothing else is ever opened: the driver knows no file system.
typedef struct {
    void *context;
    // Its size when it is opened.
    uint64_t byte_count;
    // Each returns 0, or -1 when it failed. `write` is null for files that are only read.
    int (*read)(void *context, uint64_t offset, size_t byte_count, void *buffer, cairn_h5_content content);
    int (*write)(void *context, uint64_t offset, size_t byte_count, const void *buffer);
    // Tells one source from every other: the name of the file that it may be opened as is made of it.
    uint64_t token;
} cairn_h5_source;

// Opens a source for reading, or -1.
hid_t cairn_h5_open(const cairn_h5_source *source);
// Makes a file in a source, in the format of HDF5 1.8, whose datasets begin at multiples of `alignment`; or -1.
hid_t cairn_h5_create(const cairn_h5_source *source, uint64_t alignment);

// Makes the calling thread's errors silent; they are asked for by cairn_h5_last_error.
void cairn_h5_silence(void);
// The innermost error of the calling thread, cut to the buffer; empty when there is none.
void cairn_h5_last_error(char *buffer, size_t byte_count);

typedef enum { cairn_h5_hard, cairn_h5_soft, cairn_h5_external, cairn_h5_other_link } cairn_h5_link_kind;
typedef enum { cairn_h5_group, cairn_h5_dataset, cairn_h5_named_type, cairn_h5_other_object } cairn_h5_object_kind;

// Calls `visit` for each link of a group; a value other than 0 stops. Returns -1 when the group is damaged.
int cairn_h5_links(
    hid_t group, int (*visit)(void *context, const char *name, cairn_h5_link_kind kind), void *context);
// What a name stands for, soft links followed. Returns -1 when there is nothing.
int cairn_h5_object(hid_t location, const char *name, cairn_h5_object_kind *kind, uint64_t *address);

// How many bytes the chunk at an offset is stored in, 0 when it was never written. Returns -1 when that cannot be
// found.
int cairn_h5_chunk_size(hid_t dataset, const hsize_t *offset, hsize_t *byte_count);

hid_t cairn_h5_type_integer(int is_signed, size_t byte_count);
// The stored forms, little-endian.
hid_t cairn_h5_stored_integer(int is_signed, size_t byte_count);
hid_t cairn_h5_stored_float(size_t byte_count);
// UTF-8 text of any length.
hid_t cairn_h5_type_text(void);

// Text in UTF-8 of so many bytes, padded with NULs.
hid_t cairn_h5_type_fixed_text(size_t byte_count);

hid_t cairn_h5_dataset_properties(int reserves_space);
hid_t cairn_h5_group_properties(void);
uint64_t cairn_h5_undefined_address(void);
