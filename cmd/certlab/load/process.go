package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc: USER_HZ is 100 wherever Go runs on
// Linux.
const tick = 10 * time.Millisecond

// process is what Linux tells of one. Elsewhere there is nothing to read.
type process struct {
	user, system  time.Duration
	rss, peak     int64 // KiB
	threads       int
	written, call int64 // octets for the disk, write calls
}

// readProcess reads /proc of a process: "self" or a number.
func readProcess(pid string) (process, error) {
	var p process
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return p, fmt.Errorf("measuring the server's process: %w", err)
	}
	// The command's name may hold anything: the numbers begin after it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 18 {
		return p, fmt.Errorf("measuring the server's process: /proc/%s/stat has an unknown form", pid)
	}
	p.user, p.system = time.Duration(number(fields[11]))*tick, time.Duration(number(fields[12]))*tick
	p.threads = int(number(fields[17]))
	status := values("/proc/" + pid + "/status")
	p.rss, p.peak = status["VmRSS"], status["VmHWM"]
	io := values("/proc/" + pid + "/io") // only the owner may read it
	p.written, p.call = io["write_bytes"], io["syscw"]
	return p, nil
}

// values reads lines as "VmRSS:   1234 kB".
func values(path string) map[string]int64 {
	out := map[string]int64{}
	b, err := os.ReadFile(path)
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		if name, rest, ok := strings.Cut(line, ":"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				out[name] = number(f[0])
			}
		}
	}
	return out
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// loadAverage is the machine's of the last minute; 0 where it is not known.
func loadAverage() float64 {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), " ")
	f, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return f
}

// measure runs work of n requests under the clock and notes what it cost.
func (r *Report) measure(pid, n int, work func()) error {
	server := strconv.Itoa(pid)
	var before, after process
	var err error
	if pid > 0 {
		if before, err = readProcess(server); err != nil {
			return err
		}
	}
	own, _ := readProcess("self")
	start := time.Now()
	work()
	r.WallSeconds = time.Since(start).Seconds()
	ownAfter, _ := readProcess("self")
	per := 1 / float64(n)
	r.ClientCPU = milliseconds(ownAfter.user+ownAfter.system-own.user-own.system) * per
	if pid == 0 {
		return nil
	}
	if after, err = readProcess(server); err != nil {
		r.Errors["the server's process is gone"]++ // a crash test: the replies still count
		return nil
	}
	r.ServerUser = milliseconds(after.user-before.user) * per
	r.ServerSystem = milliseconds(after.system-before.system) * per
	r.ServerCPU = r.ServerUser + r.ServerSystem
	r.ServerRSS, r.ServerPeak, r.ServerThreads = after.rss, after.peak, after.threads
	r.ServerWritten, r.ServerWriteCall = float64(after.written-before.written)*per, float64(after.call-before.call)*per
	return nil
}
