// Command price serves a price, or fetches one over HTTP and inserts it into a database: the
// small program of the chapter's serverless job.
package main

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	_ "github.com/go-sql-driver/mysql"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch strings.Join(args, " ") {
	case "serve":
		http.HandleFunc("/price", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%d\n", 40_000+time.Now().Unix()%1000)
		})
		return http.ListenAndServe(":8080", nil)
	case "collect":
		return collect(os.Getenv("PRICE_URL"), os.Getenv("DATABASE"))
	default:
		return fmt.Errorf("usage: price serve|collect")
	}
}

func collect(url, database string) error {
	client := http.Client{Timeout: 20 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 100))
	if err != nil {
		return err
	}
	price, err := strconv.Atoi(strings.TrimSpace(string(body)))
	if err != nil {
		return fmt.Errorf("%s sent no price: %w", url, err)
	}
	db, err := sql.Open("mysql", database)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE IF NOT EXISTS prices (at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, price INT)"); err != nil {
		return err
	}
	_, err = db.Exec("INSERT INTO prices (price) VALUES (?)", price)
	return err
}
