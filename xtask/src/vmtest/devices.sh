# compare FILE EXPECTED: calls on GPU devices in a CSV run against lines of `DEVICE COMMAND[/DETAIL] CALLS ERRORS REFUSED`.
# Fields that may hold commas are cut at the first one, in both.
compare() {
    awk -F, '!/^#/ && $8 ~ /^(ioctl|poll|epoll_wait|epoll_ctl)$/ && $9 ~ /^(kfd|nvidia|card0|dma-buf|sync_file)/ {
        name = $8 == "ioctl" ? $11 : $8; detail = $13
        if (name ~ /^"/) { sub(/^"/, "", name); detail = "" }
        gsub(/"/, "", detail)
        key = $9 " " name (detail == "" ? "" : "/" detail)
        calls[key] += $(NF - 10); errors[key] += $(NF - 9); refused[key] += $(NF - 8)
    }
    END { for (key in calls) print key, calls[key], errors[key], refused[key] }' "$1" | sort >/tmp/counted
    sort "$2" >/tmp/wanted
    cat /tmp/counted
    diff /tmp/wanted /tmp/counted
}

# hooks FILE DEVICE: whether every ioctl on a device reached the driver's own function, and took no longer there.
hooks() {
    awk -F, -v device="$2" '!/^#/ && $8 == "ioctl" && $9 == device {
        calls += $(NF - 10); inside += $(NF - 4); driver += $(NF - 3); total += $(NF - 2)
    }
    END {
        print device, calls, "calls,", inside, "in the driver,", total, "ns,", driver, "ns in the driver"
        exit !(calls > 0 && calls == inside && driver > 0 && driver <= total)
    }' "$1"
}
