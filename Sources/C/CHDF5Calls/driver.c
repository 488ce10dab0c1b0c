#include "hdf5_calls.h"
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A file driver over a cairn_h5_source. HDF5 calls it with its own lock held.

typedef struct {
    H5FD_t shared;
    cairn_h5_source source;
    haddr_t end_of_allocation;
    haddr_t end_of_file;
    /// Elements of at least as many bytes begin at a multiple of it.
    haddr_t alignment;
} source_file;

typedef struct {
    cairn_h5_source source;
    uint64_t alignment;
} source_info;

static void name_of(uint64_t token, char *name, size_t byte_count) {
    snprintf(name, byte_count, "cairn-source-%" PRIu64, token);
}

static H5FD_t *source_open(const char *name, unsigned flags, hid_t properties, haddr_t maximum) {
    (void)maximum;
    const source_info *info = H5Pget_driver_info(properties);
    if (info == NULL || name == NULL) return NULL;
    const cairn_h5_source *source = &info->source;
    // Other names come from inside a file: virtual datasets and external links.
    char expected[64];
    name_of(source->token, expected, sizeof expected);
    if (strcmp(name, expected) != 0) return NULL;
    if ((flags & (H5F_ACC_RDWR | H5F_ACC_CREAT | H5F_ACC_TRUNC)) && source->write == NULL) return NULL;
    source_file *file = calloc(1, sizeof *file);
    if (file == NULL) return NULL;
    file->source = *source;
    file->alignment = info->alignment;
    file->end_of_file = (flags & H5F_ACC_TRUNC) ? 0 : source->byte_count;
    return &file->shared;
}

static herr_t source_close(H5FD_t *file) {
    free(file);
    return 0;
}

static int source_compare(const H5FD_t *one, const H5FD_t *other) {
    uint64_t first = ((const source_file *)one)->source.token, second = ((const source_file *)other)->source.token;
    return (first > second) - (first < second);
}

static herr_t source_query(const H5FD_t *file, unsigned long *flags) {
    (void)file;
    if (flags != NULL) *flags = H5FD_FEAT_AGGREGATE_METADATA;
    return 0;
}

static haddr_t source_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const source_file *)file)->end_of_allocation;
}

static herr_t source_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t address) {
    (void)type;
    ((source_file *)file)->end_of_allocation = address;
    return 0;
}

// Not by H5Pset_alignment: HDF5 keeps account of every gap that it leaves, and looks through them all for each new dataset.
static haddr_t source_alloc(H5FD_t *shared, H5FD_mem_t type, hid_t properties, hsize_t byte_count) {
    (void)properties;
    source_file *file = (source_file *)shared;
    haddr_t start = file->end_of_allocation;
    if (type == H5FD_MEM_DRAW && file->alignment > 1 && byte_count >= file->alignment)
        start = (start + file->alignment - 1) / file->alignment * file->alignment;
    if (start > (haddr_t)INT64_MAX || byte_count > (haddr_t)INT64_MAX - start) return HADDR_UNDEF;
    file->end_of_allocation = start + byte_count;
    return start;
}

static haddr_t source_get_eof(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const source_file *)file)->end_of_file;
}

static herr_t source_read(
    H5FD_t *shared, H5FD_mem_t type, hid_t properties, haddr_t address, size_t byte_count, void *buffer) {
    (void)properties;
    source_file *file = (source_file *)shared;
    if (address == HADDR_UNDEF || address > file->end_of_allocation
        || byte_count > file->end_of_allocation - address)
        return -1;
    // What was allocated and never written reads as zeros.
    size_t there = 0;
    if (address < file->end_of_file)
        there = byte_count < file->end_of_file - address ? byte_count : (size_t)(file->end_of_file - address);
    if (there < byte_count) {
        if (file->source.write == NULL) return -1;
        memset((char *)buffer + there, 0, byte_count - there);
    }
    if (there == 0) return 0;
    cairn_h5_content content = type == H5FD_MEM_OHDR ? cairn_h5_header : cairn_h5_other_content;
    return file->source.read(file->source.context, address, there, buffer, content);
}

static herr_t source_write(
    H5FD_t *shared, H5FD_mem_t type, hid_t properties, haddr_t address, size_t byte_count, const void *buffer) {
    (void)type;
    (void)properties;
    source_file *file = (source_file *)shared;
    if (file->source.write == NULL || address == HADDR_UNDEF || address > file->end_of_allocation
        || byte_count > file->end_of_allocation - address)
        return -1;
    if (file->source.write(file->source.context, address, byte_count, buffer) != 0) return -1;
    if (address + byte_count > file->end_of_file) file->end_of_file = address + byte_count;
    return 0;
}

static herr_t source_truncate(H5FD_t *shared, hid_t properties, hbool_t closing) {
    (void)properties;
    (void)closing;
    source_file *file = (source_file *)shared;
    if (file->source.write != NULL) file->end_of_file = file->end_of_allocation;
    return 0;
}

static const H5FD_class_t source_class = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)600,
#endif
    .name = "cairn-source",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(source_info),
    .open = source_open,
    .close = source_close,
    .cmp = source_compare,
    .query = source_query,
    .alloc = source_alloc,
    .get_eoa = source_get_eoa,
    .set_eoa = source_set_eoa,
    .get_eof = source_get_eof,
    .read = source_read,
    .write = source_write,
    .truncate = source_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

// Callers hold one lock of their own around all of HDF5.
static hid_t driver = H5I_INVALID_HID;

static hid_t access_properties(const cairn_h5_source *source, uint64_t alignment) {
    if (driver < 0) driver = H5FDregister(&source_class);
    if (driver < 0) return H5I_INVALID_HID;
    hid_t properties = H5Pcreate(H5P_FILE_ACCESS);
    if (properties < 0) return properties;
    source_info info = {*source, alignment};
    if (H5Pset_driver(properties, driver, &info) < 0 || H5Pset_fclose_degree(properties, H5F_CLOSE_STRONG) < 0) {
        H5Pclose(properties);
        return H5I_INVALID_HID;
    }
    return properties;
}

hid_t cairn_h5_open(const cairn_h5_source *source) {
    hid_t properties = access_properties(source, 1);
    if (properties < 0) return H5I_INVALID_HID;
    char name[64];
    name_of(source->token, name, sizeof name);
    hid_t file = H5Fopen(name, H5F_ACC_RDONLY, properties);
    // Every call clears the errors of those before, and why a file was not opened is asked for later.
    hid_t errors = file < 0 ? H5Eget_current_stack() : H5I_INVALID_HID;
    H5Pclose(properties);
    if (errors >= 0) H5Eset_current_stack(errors);
    return file;
}

hid_t cairn_h5_create(const cairn_h5_source *source, uint64_t alignment) {
    hid_t properties = access_properties(source, alignment);
    if (properties < 0) return H5I_INVALID_HID;
    hid_t file = H5I_INVALID_HID;
    // Attributes larger than 64 KB need the format of 1.8, which every reader in use knows. Attributes stay in headers
    // while they can, as those of old files do.
    if (H5Pset_libver_bounds(properties, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0) {
        char name[64];
        name_of(source->token, name, sizeof name);
        hid_t creation = H5Pcreate(H5P_FILE_CREATE);
        // The root group would have the time in it.
        if (creation >= 0 && H5Pset_attr_phase_change(creation, UINT16_MAX, 0) >= 0
            && H5Pset_obj_track_times(creation, 0) >= 0)
            file = H5Fcreate(name, H5F_ACC_TRUNC, creation, properties);
        if (creation >= 0) H5Pclose(creation);
    }
    H5Pclose(properties);
    return file;
}
