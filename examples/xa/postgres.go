package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// prefix tells our global ids from those of others.
const prefix = "polylog-xa-"

// postgresResource is a connection to PostgreSQL.
type postgresResource struct {
	db *pgx.Conn
	tx pgx.Tx
}

func openPostgres(ctx context.Context, url string) (*postgresResource, error) {
	db, err := pgx.Connect(ctx, url)
	return &postgresResource{db: db}, err
}

func (r *postgresResource) begin(ctx context.Context) (err error) {
	r.tx, err = r.db.Begin(ctx)
	return err
}

// An id is a nuid, of letters and digits: it needs no quoting.
func (r *postgresResource) prepare(ctx context.Context, id string) error {
	_, err := r.db.Exec(ctx, "PREPARE TRANSACTION '"+prefix+id+"'")
	return err
}

func (r *postgresResource) commit(ctx context.Context, id string) error {
	_, err := r.db.Exec(ctx, "COMMIT PREPARED '"+prefix+id+"'")
	return err
}

func (r *postgresResource) rollback(ctx context.Context, id string) error {
	_, err := r.db.Exec(ctx, "ROLLBACK PREPARED '"+prefix+id+"'")
	return err
}

func (r *postgresResource) prepared(ctx context.Context) ([]string, error) {
	return postgresPrepared(ctx, r.db)
}

func postgresPrepared(ctx context.Context, db *pgx.Conn) (ids []string, err error) {
	rows, err := db.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
	if err != nil {
		return nil, err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range gids {
		if id, ours := strings.CutPrefix(gid, prefix); ours {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// startPostgres starts a server of its own in a directory, which speaks on a
// socket there.
func startPostgres(ctx context.Context, dir string) (url string, stop func() error, err error) {
	bin, err := postgresPrograms()
	if err != nil {
		return "", nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, err
	}
	// PostgreSQL does not want to be root.
	var as []string
	if os.Geteuid() == 0 {
		as = []string{"runuser", "-u", "postgres", "--"}
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			return "", nil, err
		}
		if text, err := exec.CommandContext(ctx, "chown", "postgres", dir).CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("chown: %w: %s", err, text)
		}
	}
	do := func(args ...string) error {
		args = slices.Concat(as, args)
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, text)
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := do(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust"); err != nil {
		return "", nil, err
	}
	control := filepath.Join(bin, "pg_ctl")
	settings := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_prepared_transactions=16", dir)
	if err := do(control, "-D", data, "-w", "-o", settings, "-l", filepath.Join(dir, "log"), "start"); err != nil {
		return "", nil, err
	}
	stop = func() error {
		return do(control, "-D", data, "-w", "-t", strconv.Itoa(int(time.Minute.Seconds())), "-m", "immediate", "stop")
	}
	return "host=" + dir + " user=postgres dbname=postgres", stop, nil
}

// postgresPrograms is where initdb and pg_ctl are.
func postgresPrograms() (string, error) {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil || len(found) == 0 {
		return "", errors.New("no pg_ctl: install PostgreSQL's server (Debian: apt-get install postgresql)")
	}
	return filepath.Dir(found[len(found)-1]), nil
}
