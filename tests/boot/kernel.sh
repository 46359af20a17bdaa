# To be sourced by image: the kernel and its first steps.

# All that the machine needs: the initrd loads them, so that the root file
# system has none.
modules="virtio_pci virtio_mmio virtio_blk virtio_net virtio_console virtio_rng ext4 crc32c_generic
    af_packet veth sch_netem sch_tbf sch_htb sch_prio cls_u32"

# fetch_kernel ARCH PACKAGE INTO: unpacked, never installed: it is not this machine's.
fetch_kernel() {
    tests/boot/foreign "$1" mmdebstrap --quiet --mode=root --variant=extract --architectures="$1" \
        --include="$2,busybox-static" "$suite" "$3" "${sources[@]}"
}

# make_initrd UNPACKED WORK OUT: busybox, the modules, and the way to the root.
make_initrd() {
    local version module file
    version=$(ls "$1/lib/modules")
    mkdir -p "$2/bin" "$2/modules" "$2/proc" "$2/dev" "$2/root"
    cp "$1/bin/busybox" "$2/bin/busybox"
    ln -s busybox "$2/bin/sh"
    depmod -b "$1" "$version"
    for module in $modules; do
        modprobe -d "$1" -S "$version" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
        cp "$file" "$2/modules/"
        echo "insmod /modules/$(basename "$file")"
    done > "$2/load"
    install -m 755 tests/boot/guest/init "$2/init"
    (cd "$2" && find . | cpio --quiet -o -H newc | gzip -1) > "$3"
}
