# compare FILE EXPECTED: calls on GPU devices in a CSV run against lines of `DEVICE COMMAND[/DETAIL] CALLS ERRORS REFUSED`.
# Fields that may hold commas are cut at the first one, in both.
compare() {
    awk -F, '!/^#/ && $8 == "ioctl" && $9 ~ /^(kfd|nvidia)/ {
        name = $11; detail = $13
        if (name ~ /^"/) { sub(/^"/, "", name); detail = "" }
        gsub(/"/, "", detail)
        key = $9 " " name (detail == "" ? "" : "/" detail)
        calls[key] += $(NF - 8); errors[key] += $(NF - 7); refused[key] += $(NF - 6)
    }
    END { for (key in calls) print key, calls[key], errors[key], refused[key] }' "$1" | sort >/tmp/counted
    sort "$2" >/tmp/wanted
    cat /tmp/counted
    diff /tmp/wanted /tmp/counted
}
