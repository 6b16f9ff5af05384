// The application that the benchmark waits for: small, static, the same in all that it measures.
//
//	GET /        says ok
//	GET /dns     looks up the application's own Service by its DNS name, fetches / from there and
//	             reports both; 503 until that works
//	PATCH /writes  keeps the body, one line, on disk and says what it kept: an acknowledged write
//	GET /writes  says all that it has kept
//	GET /zeros   sends size bytes of zeros
//	GET /way?to=HOST:PORT  connects there and fetches /zeros, and says how long that takes
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// The dot at its end spares the search path of the pod: the name is whole.
const service = "app.default.svc.cluster.local."

// How long a lookup or a fetch may take; whoever waits asks again.
const limit = 2 * time.Second

const file = "/data/writes"

// What /zeros sends, and how often /way connects.
const (
	size     = 32 << 20
	connects = 21
)

var (
	// Each time a new connection: it is reached through the Service or not at all.
	client = http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	lock   sync.Mutex
)

func main() {
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	http.HandleFunc("GET /dns", dns)
	http.HandleFunc("PATCH /writes", write)
	http.HandleFunc("GET /writes", writes)
	http.HandleFunc("GET /zeros", zeros)
	http.HandleFunc("GET /way", way)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

type answer struct {
	Addresses []string `json:"addresses,omitempty"`
	Body      string   `json:"body,omitempty"`
	Error     string   `json:"error,omitempty"`
}

func dns(w http.ResponseWriter, request *http.Request) {
	found, err := lookUp(request.Context())
	status := http.StatusOK
	if err != nil {
		found.Error, status = err.Error(), http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(found)
}

func lookUp(parent context.Context) (found answer, err error) {
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	if found.Addresses, err = net.DefaultResolver.LookupHost(ctx, service); err != nil {
		return
	}
	response, err := client.Get("http://" + strings.TrimSuffix(service, ".") + "/")
	if err != nil {
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	found.Body = string(body)
	if err == nil && found.Body != "ok" {
		err = fmt.Errorf("%s says %q", service, found.Body)
	}
	return
}

func write(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(io.LimitReader(request.Body, 1<<10))
	line := strings.TrimSpace(string(body))
	if err != nil || line == "" {
		http.Error(w, "a line is needed", http.StatusBadRequest)
		return
	}
	if err := keep(line); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, line)
}

// keep returns when the line is on disk.
func keep(line string) error {
	lock.Lock()
	defer lock.Unlock()
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err = out.WriteString(line + "\n"); err != nil {
		return err
	}
	return out.Sync()
}

func writes(w http.ResponseWriter, _ *http.Request) {
	kept, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(kept)
}

func zeros(w http.ResponseWriter, _ *http.Request) {
	block := make([]byte, 1<<16)
	for sent := 0; sent < size; sent += len(block) {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// Milliseconds, and MiB in a second.
type found struct {
	Connect    float64 `json:"connect"`
	Throughput float64 `json:"throughput"`
}

func way(w http.ResponseWriter, request *http.Request) {
	seen, err := look(request.URL.Query().Get("to"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(seen)
}

func look(to string) (seen found, err error) {
	var times []time.Duration
	for range connects {
		began := time.Now()
		connection, err := net.DialTimeout("tcp", to, limit)
		if err != nil {
			return seen, err
		}
		times = append(times, time.Since(began))
		connection.Close()
	}
	slices.Sort(times)
	seen.Connect = times[len(times)/2].Seconds() * 1000
	began := time.Now()
	// It takes longer than a page does.
	response, err := http.Get("http://" + to + "/zeros")
	if err != nil {
		return
	}
	defer response.Body.Close()
	got, err := io.Copy(io.Discard, response.Body)
	if err == nil && got != size {
		err = fmt.Errorf("%d of %d bytes came", got, size)
	}
	seen.Throughput = float64(got) / (1 << 20) / time.Since(began).Seconds()
	return
}
