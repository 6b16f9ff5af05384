#!/usr/bin/env bash
# Builds Kubernetes' conformance suite and the images of its pods: `build.sh OUTPUT_DIRECTORY ETCD` leaves the
# program e2e.test, the archive images.tar, the list missing.txt of the suite's images that it does not make, and the
# file version with Kubernetes' version. ETCD is etcd's program.
#
# The official images stand on Alpine and on others' images, which only registries have. Here all stand on one
# layer of Debian packages with the same programs, and Kubernetes' own programs are built from its Go modules.
#
# Environment: KUBBY_DEBIAN_MIRROR and TMPDIR as in images/node/build.sh.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8
recipe=$(cd "$(dirname "$0")" && pwd)
output=$(cd "$1" && pwd)
etcd=$2
work=$(mktemp -d "${TMPDIR:-/var/tmp}/kubby-conformance.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

export CGO_ENABLED=0 GOOS=linux GOWORK=off
go_build() { (cd "$recipe" && go build -mod=readonly -trimpath -buildvcs=false -ldflags='-s -w' -o "$1" "$2"); }

# Debian's packages, from the mirror that this host's apt uses.
base_layer() {
    local mode=unshare mirror=${KUBBY_DEBIAN_MIRROR:-}
    [ "$(id -u)" != 0 ] || mode=root
    if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
        # shellcheck disable=SC2016 # the format is apt's, not the shell's
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' 2>/dev/null |
            sed -n 1p || true)
    fi
    # As root it mounts /proc and the like, which must not outlive a build that was killed.
    local -a isolated=()
    if [ $mode = root ] && unshare --mount true 2>/dev/null; then
        isolated=(unshare --mount)
    fi
    # shellcheck disable=SC2016 # $1 is the root directory, which mmdebstrap gives to the hooks
    "${isolated[@]}" mmdebstrap --mode=$mode --variant=essential --format=tar \
        --include=bash,bind9-dnsutils,busybox,curl,iperf,iproute2,libc-bin,netcat-openbsd,nginx-light,passwd,socat,util-linux \
        --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
        --dpkgopt=path-exclude='/usr/share/locale/*' --aptopt='APT::Install-Recommends "false"' \
        --customize-hook='mkdir "$1/busybox" "$1/uploads" && chroot "$1" busybox --install -s /busybox' \
        --customize-hook='chroot "$1" groupadd -g 50000 group-defined-in-image' \
        --customize-hook='chroot "$1" useradd -u 1000 -G group-defined-in-image user-defined-in-image' \
        trixie "$work/base.tar" "${mirror:-http://deb.debian.org/debian}"
}

# layer NAME FOLDER
layer() {
    tar -cf "$work/$1.tar" -C "$2" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name .
}

# Adds an image to the archive: image NAME CONFIGURATION LAYER…; the name has no tag, the suite says which it wants.
image() {
    local name=$1 config=$2 tag part parts=() ids=() tags
    shift 2
    tags=$(grep -E "^registry\.k8s\.io/(.*/)?$name:[^:/]*$" "$work/wanted") ||
        { echo "the suite wants no image $name any more" >&2 && return 1; }
    for part in "$@"; do
        parts+=("$part.tar")
        ids+=("sha256:$(sha256sum <"$work/$part.tar" | cut -d ' ' -f 1)")
    done
    while read -r tag; do
        jq -n --argjson config "$config" --arg arch "$(go env GOARCH)" \
            '{architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z", config: $config,
              rootfs: {type: "layers", diff_ids: $ARGS.positional}}' \
            --args "${ids[@]}" >"$work/config"
        part=$(sha256sum <"$work/config" | cut -d ' ' -f 1).json
        mv "$work/config" "$work/$part"
        jq -n --arg config "$part" --arg tag "$tag" \
            '{Config: $config, RepoTags: [$tag], Layers: $ARGS.positional}' --args "${parts[@]}" >>"$work/manifests"
        echo "$tag" >>"$work/made"
    done <<<"$tags"
}

echo "building the suite"
(cd "$recipe" && go test -c -mod=readonly -trimpath -buildvcs=false -ldflags='-s -w' \
    -o "$output/e2e.test" k8s.io/kubernetes/test/e2e)
"$output/e2e.test" --list-images | sort -u >"$work/wanted"

echo "building the programs of its images"
sources=$(cd "$recipe" && go list -mod=readonly -f '{{.Dir}}' k8s.io/kubernetes/test/images/agnhost)
mkdir -p "$work"/{agnhost,nnp/usr/local/bin,animals,apiserver,etcd/usr/local/bin,issue}
go_build "$work/agnhost/agnhost" k8s.io/kubernetes/test/images/agnhost
ln -s agnhost "$work/agnhost/agnhost-2"
cp "$sources"/porter/localhost.{crt,key} "$work/agnhost"
go_build "$work/nnp/usr/local/bin/nnp" k8s.io/kubernetes/test/images/nonewprivs
chmod 4755 "$work/nnp/usr/local/bin/nnp"
go_build "$work/apiserver/sample-apiserver" k8s.io/sample-apiserver
go_build "$work/issue/regression-issue-74839" k8s.io/kubernetes/test/images/regression-issue-74839
cp "$sources"/../kitten/html/data.json "$work/animals"
install -m 755 "$etcd" "$work/etcd/usr/local/bin/etcd"
chmod -R u+w "$work"

echo "installing the packages of its images"
base_layer
for name in agnhost nnp animals apiserver etcd issue; do layer $name "$work/$name"; done
echo "packing its images"
agnhost='"Entrypoint": ["/agnhost"]'
path='"Env": ["PATH=/busybox:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
image agnhost "{$agnhost, \"Cmd\": [\"pause\"]}" base agnhost
image glibc-dns-testing '{"Cmd": ["/bin/bash"]}' base
image ipc-utils '{"Cmd": ["/bin/bash"]}' base
image busybox "{\"Cmd\": [\"sh\"], $path}" base
image nonroot "{\"User\": \"1234\", \"Cmd\": [\"sh\"], $path}" base
image nginx '{"Cmd": ["nginx", "-g", "daemon off;"]}' base
image nonewprivs '{"Cmd": ["nnp"]}' base nnp
image '(kitten|nautilus)' "{$agnhost, \"Cmd\": [\"test-webserver\"]}" base agnhost animals
image sample-apiserver '{"Entrypoint": ["/sample-apiserver"]}' base apiserver
image etcd '{"Cmd": ["etcd"]}' base etcd
image regression-issue-74839 '{"Entrypoint": ["/regression-issue-74839"]}' base issue
# Every node has it.
grep /pause: "$work/wanted" >>"$work/made"
# Images that are nowhere, so that a pull fails, are not missing.
sort -u "$work/made" | comm -13 - "$work/wanted" | grep -v '^invalid\.' >"$output/missing.txt"
(cd "$recipe" && go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes) >"$output/version"
jq -s . "$work/manifests" >"$work/manifest.json"
(cd "$work" && tar -cf "$output/images.tar" manifest.json -- *.tar [0-9a-f]*.json)
