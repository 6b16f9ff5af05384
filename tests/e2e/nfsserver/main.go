// An NFS server for the end-to-end tests: `nfsserver FOLDER ADDRESS` serves the folder over NFS 3, its mounts at the
// same port.
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/willscott/go-nfs"
	"github.com/willscott/go-nfs/helpers"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[2])
	if err == nil {
		handler := helpers.NewNullAuthHandler(osfs.New(os.Args[1]))
		err = nfs.Serve(listener, helpers.NewCachingHandler(handler, 1024))
	}
	fmt.Fprintln(os.Stderr, "nfsserver:", err)
	os.Exit(1)
}
