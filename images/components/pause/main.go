// Command pause holds a pod's namespaces open: it is their first process, does nothing, buries
// the children that nobody else waits for, and leaves when it is told to.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		os.Stdout.WriteString("pause " + version + "\n")
		return
	}
	if os.Getpid() != 1 {
		os.Stderr.WriteString("pause: warning: should be the first process of a pod\n")
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	// Children that died before the line above sent no signal that anyone saw.
	reap()
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		reap()
	}
}

// reap waits for every child that has ended: several deaths can merge into one SIGCHLD.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
	}
}
