#!/bin/sh
# Boots other Linux kernels under QEMU and runs there what depends on the kernel: by default Debian 12's 6.1 and
# Debian 11's 5.10. The virtual machine sees this machine's files, read-only but for a layer in its memory, so what
# .build/release has is what runs. Installs what is missing; not part of run.sh.
#
#     sh tests/kernels.sh [SUITE...]             bookworm bullseye
#     TESTS='unit/|kernel/' sh tests/kernels.sh  a regular expression for ctest
#
# The processor is emulated, which works everywhere and takes minutes.
set -eu
export LC_ALL=C
cd "$(dirname "$0")/.."
root=$PWD
work=$root/.build/kernels
tests=${TESTS:-'^(unit/|kernel/|end_to_end/(reap|scan|doctor|leak|modes|http_leak|faults)$)'}

fail()
{
    echo "kernels.sh: $*" >&2
    exit 2
}

# ---- inside the virtual machine ----

inside()
{
    # /proc, /sys and /dev are mounted. What the tests expect of a machine:
    mount -t tmpfs none /tmp && mount -t tmpfs none /run && mkdir -p /dev/shm /dev/pts
    mount -t tmpfs none /dev/shm && mount -t devpts none /dev/pts
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
    ip link set lo up
    hostname kernels
    ulimit -n 20000
    echo "kernel $(uname -r)"
    # Slow machines need longer; nothing in a test may depend on it.
    ctest --preset release -R "$tests" -j 2 --timeout 900 --output-on-failure 2>&1
    echo "kernels.sh: ctest ended with status $?"
}

if [ "${1:-}" = --inside ]; then
    tests=$2
    inside
    echo o >/proc/sysrq-trigger # the end of the virtual machine
    sleep 60
fi

# ---- a kernel ----

# SUITE: downloads and unpacks the suite's kernel, once; prints its version.
fetch()
{
    suite=$1
    here=$work/$suite
    if [ ! -e "$here/version" ]; then
        mkdir -p "$here/lists/partial" "$here/archives/partial" "$here/files"
        uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
        [ -n "$uri" ] || fail "apt knows no Debian mirror"
        keys=/usr/share/keyrings/debian-archive-keyring.gpg
        echo "deb [signed-by=$keys] $uri $suite main" >"$here/sources.list"
        cat >"$here/apt.conf" <<END
Dir::Etc::sourcelist "$here/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$here/lists";
Dir::Cache "$here";
Debug::NoLocking "1";
APT::Sandbox::User "root";
END
        export APT_CONFIG="$here/apt.conf"
        apt-get update >"$here/apt.log" 2>&1 || fail "see $here/apt.log"
        package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
        (cd "$here" && apt-get download "$package" >>apt.log 2>&1) || fail "see $here/apt.log"
        unset APT_CONFIG
        dpkg-deb -x "$here"/linux-image-*.deb "$here/files"
        rm "$here"/linux-image-*.deb
        basename "$here"/files/lib/modules/* >"$here/version"
        depmod -b "$here/files" "$(cat "$here/version")"
    fi
    cat "$here/version"
}

# SUITE VERSION: the first files that the kernel sees: enough to mount this machine's.
initramfs()
{
    here=$work/$1
    first=$here/first
    rm -rf "$first"
    mkdir -p "$first/bin" "$first/proc" "$first/sys" "$first/dev" "$first/host" "$first/layer" "$first/new"
    cp /bin/busybox "$first/bin/busybox"
    for module in virtio_pci 9pnet_virtio 9p overlay; do
        modprobe --dirname "$here/files" --set-version "$2" --show-depends "$module" 2>/dev/null
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$here/modules"
    while read -r module; do
        cp "$module" "$first/"
        echo "insmod /$(basename "$module")"
    done <"$here/modules" >"$here/insmod"
    cat >"$first/init" <<END
#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t devtmpfs none /dev
$(cat "$here/insmod")
mount -t tmpfs none /layer
mkdir /layer/upper /layer/work
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose files /host
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work none /new
mkdir -p /new/proc /new/sys /new/dev /new/lib/modules
mount -t proc none /new/proc
mount -t sysfs none /new/sys
mount -t devtmpfs none /new/dev
mount --bind "/new$here/files/lib/modules" /new/lib/modules
exec switch_root /new /bin/sh "$root/tests/kernels.sh" --inside '$tests' >/dev/console 2>&1 </dev/null
END
    chmod 755 "$first/init"
    (cd "$first" && find . | cpio --quiet -o -H newc | gzip) >"$here/first.gz"
}

boot()
{
    here=$work/$1
    timeout 3600 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 3072 -nodefaults -nographic -no-reboot \
        -serial stdio -kernel "$here/files/boot/vmlinuz-$2" -initrd "$here/first.gz" \
        -append "console=ttyS0 quiet panic=-1 sysrq_always_enabled=1" \
        -virtfs local,path=/,mount_tag=files,security_model=none,readonly=on,multidevs=remap \
        >"$here/console.log" 2>&1 </dev/null || true
}

sh proxy/install.sh qemu-system-x86 busybox-static cpio kmod
[ -x .build/release/lastack ] || fail "build first: cmake --preset release && cmake --build --preset release"
[ $# -gt 0 ] || set -- bookworm bullseye
failed=0
for suite; do
    version=$(fetch "$suite")
    initramfs "$suite" "$version"
    began=$(date +%s)
    boot "$suite" "$version"
    log=$work/$suite/console.log
    echo "$suite, Linux $version, $(($(date +%s) - began)) s: see $log"
    sed -n '/tests passed/p; /^The following tests FAILED/,/^Errors/p' "$log"
    grep -q 'ctest ended with status 0' "$log" || failed=1
done
exit $failed
