#!/bin/bash
# Builds the node image: `build.sh OUTPUT_DIRECTORY` leaves disk.qcow2, vmlinuz and initrd there.
#
# Needs no loop device and no mount: mmdebstrap installs the packages into a tar file, mke2fs
# makes a file system from a directory. Root runs it as it is; for an ordinary user both work in
# a user namespace (package uidmap, and a line for the user in /etc/subuid and /etc/subgid).
#
# Environment:
#   KUBBY_DEBIAN_MIRROR  the Debian mirror to use instead of the one that this host's apt uses
#                        (or http://deb.debian.org/debian where the host is not Debian)
#   TMPDIR               where the system is unpacked while it is built, 2 GiB (/var/tmp)
set -euo pipefail
export LC_ALL=C.UTF-8
export PATH="$PATH:/usr/sbin:/sbin"

recipe=$(cd "$(dirname "$0")" && pwd)
output=$(cd "$1" && pwd)

suite=trixie
standard_mirror=http://deb.debian.org/debian
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Small, since a node's own disk is larger and the file system grows into it at boot.
disk_size=2G

# All temporary files in one place that goes with this program, however it ends. Open to others as
# /tmp is, because a namespace's root is another user; what mmdebstrap makes in it is not.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/kubby-node-image.XXXXXX")
trap 'rm -rf --one-file-system "$work" 2> /dev/null || true' EXIT
chmod 1777 "$work"
export TMPDIR=$work

say() { printf '%s\n' "$*"; }

# The kernel's architecture in Debian's words.
architecture() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) echo "no node image for $(uname -m): kubby knows x86_64 and aarch64" >&2; return 1 ;;
    esac
}

# The host's mirrors of the distribution with this label (Debian, Debian-Security).
host_mirror() {
    command -v apt-get > /dev/null || return 0
    # shellcheck disable=SC2016 # the format is apt's, not the shell's
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2> /dev/null |
        awk -v label="$1" '$1 == label { sub("/$", "", $2); print $2; exit }'
}

# apt's one-line sources for the packages of the image.
sources() {
    local signed="[signed-by=$keyring]" mirror security
    mirror=${KUBBY_DEBIAN_MIRROR:-$(host_mirror Debian)}
    mirror=${mirror:-$standard_mirror}
    security=$(host_mirror Debian-Security)
    if [ "$mirror" = "$standard_mirror" ]; then
        security=${security:-$standard_mirror-security}
    fi
    echo "deb $signed $mirror $suite main"
    echo "deb $signed $mirror $suite-updates main"
    # A mirror of one's own may not carry the security updates.
    if [ -n "$security" ] && [ -z "${KUBBY_DEBIAN_MIRROR:-}" ]; then
        echo "deb $signed $security $suite-security main"
    fi
}

packages() {
    sed -e 's/#.*//' -e "s/@ARCH@/$(architecture)/" "$recipe/packages.txt" | xargs | tr ' ' ,
}

# As root, or as the root of a user namespace.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else mmdebstrap --unshare-helper "$@"; fi
}

install_packages() {
    local mode=unshare line
    [ "$(id -u)" != 0 ] || mode=root
    # mmdebstrap leaves the host's apt configuration alone, so a proxy in it is passed on.
    if command -v apt-config > /dev/null; then
        eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
        [ -z "${http_proxy:-}" ] || export http_proxy
        [ -z "${https_proxy:-}" ] || export https_proxy
    fi
    # Owner and modes are set here: the recipe may come from any checkout under any umask.
    tar -cf "$output/overlay.tar" -C "$recipe/root" \
        --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX .
    local -a args=(
        "--mode=$mode" --variant=minbase --format=tar
        "--architectures=$(architecture)" "--include=$(packages)"
        "--keyring=$keyring" '--aptopt=APT::Install-Recommends "false"'
    )
    while read -r line; do
        [[ $line = path-* ]] && args+=("--dpkgopt=$line")
    done < "$recipe/dpkg.cfg"
    # As root it mounts /proc and the like, which must not outlive a build that was killed. (In a
    # user namespace they cannot.)
    local -a isolated=()
    if [ $mode = root ] && unshare --mount true 2> /dev/null; then
        isolated=(unshare --mount)
    fi
    # shellcheck disable=SC2016 # $1 is the root directory, which mmdebstrap gives to the hooks
    "${isolated[@]}" mmdebstrap "${args[@]}" \
        --customize-hook="tar-in $output/overlay.tar /" \
        --customize-hook="upload $recipe/configure.sh /configure.sh" \
        --customize-hook='chroot "$1" sh /configure.sh' \
        --customize-hook='rm "$1/configure.sh"' \
        "$suite" "$output/rootfs.tar" < <(sources)
}

# Runs as (namespace) root: unpacks the tar file on stdin and makes the file system in the open
# file 3. It belongs to the calling user and is in a directory that the namespace's root, another
# user, cannot enter, but it can write to the open file.
# shellcheck disable=SC2016 # its own shell expands it
make_filesystem='
    set -eu
    root=$(mktemp -d)
    trap "rm -rf \"$root\"" EXIT
    chmod 755 "$root"
    # No device nodes: a namespace may not make them, and the kernel fills /dev at boot.
    tar -xf - -C "$root" --numeric-owner --exclude="./dev/*"
    mke2fs -q -F -t ext4 -L kubby-root -m 0 -J size=64 -d "$root" /proc/self/fd/3 "$1"
    # In the superblock, so that they hold however the disk is mounted: freed blocks leave the
    # disk file, and no background thread fills it with empty inode tables.
    tune2fs -o discard -E mount_opts=noinit_itable /proc/self/fd/3 > /dev/null
'

make_disk() {
    local raw=$output/disk.raw
    # The output directory is private; the namespace has to be able to write this one file in it.
    (umask 0; : > "$raw")
    as_root sh -c "$make_filesystem" make-filesystem "$disk_size" \
        3<> "$raw" < "$output/rootfs.tar"
    qemu-img convert -f raw -O qcow2 "$raw" "$output/disk.qcow2"
    rm "$raw"
}

# The kernel and its initrd lie in the tar file as /boot/vmlinuz-VERSION and /boot/initrd.img.
take_kernel() {
    tar -xOf "$output/rootfs.tar" --wildcards './boot/vmlinuz-*' > "$output/vmlinuz"
    tar -xOf "$output/rootfs.tar" --wildcards './boot/initrd.img-*' > "$output/initrd"
}

say "Installing Debian $suite from these sources:"
sources | sed 's/^/  /'
install_packages
say "Taking the kernel and its initrd out"
take_kernel
say "Making the file system and the disk"
make_disk
rm "$output/rootfs.tar" "$output/overlay.tar"
