#include "hdf5_calls.h"
#include <string.h>

void cairn_h5_silence(void) {
    // Everything is closed by who opened it. What HDF5 1.10 loses track of in damaged files would make it complain at the
    // end of the process. Callers hold one lock of their own around all of HDF5.
    static int is_set = 0;
    if (!is_set) {
        is_set = 1;
        H5dont_atexit();
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

typedef struct {
    char *buffer;
    size_t byte_count;
} error_text;

static herr_t take_error(unsigned n, const H5E_error2_t *error, void *data) {
    error_text *text = data;
    // Walking upwards, the first is the innermost; it says what is really wrong.
    if (n == 0 && error->desc != NULL) {
        strncpy(text->buffer, error->desc, text->byte_count - 1);
        text->buffer[text->byte_count - 1] = 0;
    }
    return 0;
}

void cairn_h5_last_error(char *buffer, size_t byte_count) {
    if (byte_count == 0) return;
    buffer[0] = 0;
    error_text text = {buffer, byte_count};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_error, &text);
    H5Eclear2(H5E_DEFAULT);
}

#if H5_VERSION_GE(1, 12, 0)
typedef H5L_info1_t link_info;
typedef H5O_info1_t object_info;
#define iterate_links H5Literate1
#else
typedef H5L_info_t link_info;
typedef H5O_info_t object_info;
#define iterate_links H5Literate
#endif

typedef struct {
    int (*visit)(void *context, const char *name, cairn_h5_link_kind kind);
    void *context;
} link_visit;

static herr_t visit_link(hid_t group, const char *name, const link_info *info, void *data) {
    (void)group;
    link_visit *visit = data;
    cairn_h5_link_kind kind = cairn_h5_other_link;
    if (info->type == H5L_TYPE_HARD) kind = cairn_h5_hard;
    if (info->type == H5L_TYPE_SOFT) kind = cairn_h5_soft;
    if (info->type == H5L_TYPE_EXTERNAL) kind = cairn_h5_external;
    return visit->visit(visit->context, name, kind);
}

int cairn_h5_links(
    hid_t group, int (*visit)(void *context, const char *name, cairn_h5_link_kind kind), void *context) {
    link_visit data = {visit, context};
    return iterate_links(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, visit_link, &data);
}

int cairn_h5_object(hid_t location, const char *name, cairn_h5_object_kind *kind, uint64_t *address) {
    object_info info;
    if (H5Oget_info_by_name2(location, name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0) return -1;
    *kind = info.type == H5O_TYPE_GROUP            ? cairn_h5_group
            : info.type == H5O_TYPE_DATASET        ? cairn_h5_dataset
            : info.type == H5O_TYPE_NAMED_DATATYPE ? cairn_h5_named_type
                                                   : cairn_h5_other_object;
    *address = info.addr;
    return 0;
}

// Not by H5Dget_chunk_info_by_coord: HDF5 1.10 looks at all chunks for it, and mixes up their coordinates where a
// dimension other than the first is without limit.
int cairn_h5_chunk_size(hid_t dataset, const hsize_t *offset, hsize_t *byte_count) {
    *byte_count = 0;
    if (H5Dget_chunk_storage_size(dataset, offset, byte_count) >= 0) return 0;
    // HDF5 1.10 takes a chunk that was never written for an error, and gives it the number of many others.
    char text[256];
    cairn_h5_last_error(text, sizeof text);
    *byte_count = 0;
    return strstr(text, "storage is not allocated") != NULL ? 0 : -1;
}

hid_t cairn_h5_type_integer(int is_signed, size_t byte_count) {
    switch (byte_count) {
    case 1: return is_signed ? H5T_NATIVE_INT8 : H5T_NATIVE_UINT8;
    case 2: return is_signed ? H5T_NATIVE_INT16 : H5T_NATIVE_UINT16;
    case 4: return is_signed ? H5T_NATIVE_INT32 : H5T_NATIVE_UINT32;
    case 8: return is_signed ? H5T_NATIVE_INT64 : H5T_NATIVE_UINT64;
    default: return H5I_INVALID_HID;
    }
}

hid_t cairn_h5_stored_integer(int is_signed, size_t byte_count) {
    switch (byte_count) {
    case 1: return is_signed ? H5T_STD_I8LE : H5T_STD_U8LE;
    case 2: return is_signed ? H5T_STD_I16LE : H5T_STD_U16LE;
    case 4: return is_signed ? H5T_STD_I32LE : H5T_STD_U32LE;
    case 8: return is_signed ? H5T_STD_I64LE : H5T_STD_U64LE;
    default: return H5I_INVALID_HID;
    }
}

hid_t cairn_h5_stored_float(size_t byte_count) {
    if (byte_count == 8) return H5Tcopy(H5T_IEEE_F64LE);
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (byte_count == 4 || type < 0) return type;
    // IEEE 754 binary16, as h5py makes it.
    if (H5Tset_fields(type, 15, 10, 5, 0, 10) < 0 || H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, 15) < 0) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

hid_t cairn_h5_type_text(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

hid_t cairn_h5_type_fixed_text(size_t byte_count) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0) return type;
    if (H5Tset_size(type, byte_count) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0
        || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) {
        H5Tclose(type);
        return H5I_INVALID_HID;
    }
    return type;
}

hid_t cairn_h5_dataset_properties(int reserves_space) {
    hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    if (properties < 0) return properties;
    // The elements are written later, past HDF5, to the place that it has set aside.
    if (H5Pset_obj_track_times(properties, 0) < 0 || H5Pset_attr_phase_change(properties, UINT16_MAX, 0) < 0
        || (reserves_space
            && (H5Pset_layout(properties, H5D_CONTIGUOUS) < 0
                || H5Pset_alloc_time(properties, H5D_ALLOC_TIME_EARLY) < 0
                || H5Pset_fill_time(properties, H5D_FILL_TIME_NEVER) < 0))) {
        H5Pclose(properties);
        return H5I_INVALID_HID;
    }
    return properties;
}

hid_t cairn_h5_group_properties(void) {
    hid_t properties = H5Pcreate(H5P_GROUP_CREATE);
    if (properties < 0) return properties;
    if (H5Pset_obj_track_times(properties, 0) < 0 || H5Pset_attr_phase_change(properties, UINT16_MAX, 0) < 0) {
        H5Pclose(properties);
        return H5I_INVALID_HID;
    }
    return properties;
}

uint64_t cairn_h5_undefined_address(void) { return HADDR_UNDEF; }
