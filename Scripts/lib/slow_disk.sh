# shellcheck shell=bash
# A disk that is slower than it is: what a benchmark needs to repeat a bad day.

# slow_disk BYTES FOLDER: from now on this shell, and all that it starts, writes at most BYTES a second to the disk of FOLDER.
# Writes past the page cache and those of an fsync are held back; what the kernel writes later by itself is not.
slow_disk() {
    local bytes=$1 device group
    device=$(lsblk -no MAJ:MIN,PKNAME "$(df --output=source "$2" | tail -1)" 2>/dev/null | head -1)
    # A limit belongs to a whole disk, not to a partition.
    local parent=${device##* }
    device=${device%% *}
    if [ -e "/sys/block/$parent/dev" ]; then device=$(cat "/sys/block/$parent/dev"); fi
    if [ -w /sys/fs/cgroup/blkio ]; then
        group=/sys/fs/cgroup/blkio/cairn-slow-disk
        mkdir -p "$group" && echo "$device $bytes" >"$group/blkio.throttle.write_bps_device"
    elif [ -w /sys/fs/cgroup/cgroup.subtree_control ]; then
        group=/sys/fs/cgroup/cairn-slow-disk
        echo +io >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p "$group" && echo "$device wbps=$bytes" >"$group/io.max"
    else
        fail "--slow-disk needs root and control groups of version 1 or 2"
    fi
    echo $$ >"$group/cgroup.procs"
}
