# SPDX-License-Identifier: Apache-2.0
# Reads ctest's LastTest.log files and the lines of tests/fuzz/run. Prints a line per program, what was skipped, the end of the
# output of each that failed, and last the sum of all in Check's form. Exit status 1 if anything failed or nothing ran.
#   awk -v status=STATUS -f tests/summary.awk LOG ...      STATUS: of ctest and the fuzzers; if it is not 0, something must have failed
# A program that ended without Check's line counts as one check, with an error if it failed (a crash, a time-out). A program whose
# checks all passed and which yet ended badly (what a sanitizer found at its end) counts as one error more.

function close_program(   good) {
    if (name == "") return
    good = result ~ /^Test Passed/
    if (!counted) {
        checks++
        if (good) printf "%-28s passed\n", name
        else { errors++; printf "%-28s ended without a count: %s\n", name, result }
    } else if (!good && !bad) {
        checks++; errors++
        printf "%-28s all checks passed, then: %s\n", name, result
    }
    if (!good || bad) keep_output()
    name = ""
}
function keep_output(   i, first) {
    kept[++keeps] = "---- " name ": " result
    first = lines > 30 ? lines - 30 : 0
    for (i = 1; i <= lines; i++)
        if (i > first || output[i] ~ /:[FE]:|ERROR: |runtime error|^FAILED|AssertionError/) kept[++keeps] = substr(output[i], 1, 400)
}
/^[0-9]+\/[0-9]+ Test: / { close_program(); name = $3; counted = bad = lines = 0; result = "" }
/^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
    line = $0
    gsub(/[^0-9 ]/, "", line)
    split(line, n, " +")
    checks += n[2]; failures += n[3]; errors += n[4]; bad += n[3] + n[4]; counted = 1
    printf "%-28s %s\n", name, $0
}
/^fuzz_[a-z_]+ +[0-9]+ executions/ {
    close_program()
    checks++
    print
    if (/: BROKEN$/) { errors++; kept[++keeps] = "---- " $0 }
    next
}
/^broken: / { kept[++keeps] = substr($0, 9) }
/^Test (Passed|Failed|timed)|^Test .*(Exception|Timeout|Not Run)/ { result = $0 }
/^skipped: / {
    reason = substr($0, 10)
    if (!(reason in who)) reasons[++skips] = reason
    if (index(who[reason] " ", " " name " ") == 0) who[reason] = who[reason] " " name
}
name != "" && result == "" { output[++lines] = $0 }
END {
    close_program()
    for (i = 1; i <= skips; i++) printf "skipped: %s:%s\n", reasons[i], who[reasons[i]]
    for (i = 1; i <= keeps; i++) print kept[i]
    if (status != 0 && failures + errors == 0) { checks++; errors++; print "---- ctest or a fuzzer ended with status " status ", see above" }
    printf "%d%%: Checks: %d, Failures: %d, Errors: %d\n", checks ? int(100 * (checks - failures - errors) / checks) : 0, checks,
           failures, errors
    exit status != 0 || failures + errors > 0 || checks == 0
}
