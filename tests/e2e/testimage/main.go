// The only program of the end-to-end tests' image: static, of the standard library alone, since
// the tests run where no registry can be reached. Its name in argv[0] or the first argument says
// what it does.
package main

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "app" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	run := map[string]func([]string) error{
		"serve": serve, "echo": echo, "lines": lines, "cat": cat, "tar": archive, "resolve": resolve,
		"exit": exit, "get": get, "reach": reach,
	}[name]
	if run == nil {
		fmt.Fprintln(os.Stderr, "no such program:", name)
		os.Exit(127)
	}
	if err := run(args); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

// serve answers HTTP with the host's name and sends datagrams back, and logs each request.
func serve(args []string) error {
	address := ":8080"
	if len(args) > 0 {
		address = args[0]
	}
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, 2048)
		for {
			n, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return
			}
			socket.WriteTo([]byte("echo "+string(buffer[:n])), from)
		}
	}()
	fmt.Println("serving", address)
	host, _ := os.Hostname()
	return http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("request", r.URL.Path)
		fmt.Fprintln(w, "hello from", host)
	}))
}

func echo(args []string) error {
	fmt.Println(strings.Join(args, " "))
	return nil
}

// lines answers each line of its standard input.
func lines([]string) error {
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("got", in.Text())
	}
	return in.Err()
}

func cat(args []string) error {
	for _, name := range args {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		if _, err := io.Copy(os.Stdout, file); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	}
	return nil
}

func exit([]string) error {
	os.Exit(42)
	return nil
}

// reach says for each address whether something takes a TCP connection there.
func reach(args []string) error {
	answers := make(chan string)
	for _, address := range args {
		go func(address string) {
			connection, err := net.DialTimeout("tcp", address, 5*time.Second)
			if err != nil {
				answers <- address + " failed: " + err.Error()
				return
			}
			connection.Close()
			answers <- address + " connected"
		}(address)
	}
	for range args {
		fmt.Println(<-answers)
	}
	return nil
}

// get prints what a URL gives, or fails soon.
func get(args []string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

func resolve(args []string) error {
	for _, name := range args {
		addresses, err := net.LookupHost(name)
		if err != nil {
			return err
		}
		fmt.Println(name, strings.Join(addresses, " "))
	}
	return nil
}

// archive is as much of tar as kubectl cp asks of a container: `tar cf - PATH` for files and
// `tar -xmf - -C DIR`.
func archive(args []string) error {
	flags := strings.TrimLeft(args[0], "-")
	if strings.Contains(flags, "c") {
		return pack(args[len(args)-1])
	}
	dir := "."
	for i, arg := range args {
		if arg == "-C" && i+1 < len(args) {
			dir = args[i+1]
		}
	}
	return unpack(dir)
}

func pack(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out := tar.NewWriter(os.Stdout)
	header := &tar.Header{Name: strings.TrimLeft(path, "/"), Mode: 0o644, Size: int64(len(content))}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	if _, err := out.Write(content); err != nil {
		return err
	}
	return out.Close()
}

func unpack(dir string) error {
	in := tar.NewReader(os.Stdin)
	for {
		header, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		file, err := os.Create(filepath.Join(dir, filepath.Base(header.Name)))
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, in); err != nil {
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
	}
}
