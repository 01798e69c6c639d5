#!/bin/busybox sh
# The guest's first process. Sets up the machine, says that it can be saved, waits for a job on its disk,
# runs it and powers off. `machine.rs` has the other half.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=linux
fail() {
    echo "VMTEST-FAILED $*"
    poweroff -f
}
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
echo 3 >/proc/sys/kernel/printk
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd
ip link set lo up
mount -t securityfs security /sys/kernel/security 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs tracing /sys/kernel/tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 cgroup /sys/fs/cgroup 2>/dev/null
while read -r module; do
    insmod "/vmtest/modules/$module" || fail "cannot load $module"
done </vmtest/load
[ -b /dev/vda ] || fail "no disk"
echo VMTEST-READY

# From here on in every machine that starts from the saved one. The disk's first block says how many more
# blocks of 64 KiB hold an archive. What was read before the machine was saved must not come from the cache.
while :; do
    blockdev --flushbufs /dev/vda
    header=$(dd if=/dev/vda bs=512 count=1 2>/dev/null | tr -d '\0')
    case "$header" in VMTEST-JOB\ *) break ;; esac
    usleep 20000
done
blockdev --flushbufs /dev/vda
cd /
dd if=/dev/vda bs=64k skip=1 count="${header#VMTEST-JOB }" 2>/dev/null | cpio -idmu 2>/dev/null
stty -opost </dev/ttyS1
cd /root
sh /vmtest/job >/dev/ttyS1 2>&1 </dev/null
printf '\nVMTEST-EXIT %d\n' $? >/dev/ttyS1
poweroff -f
