package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is where the broker's data lies, and how it is taken from it.
type disk interface {
	path() string
	// cut ends what the disk gives, and the broker with kill.
	cut(kill func()) error
	remove()
}

// plainDisk keeps what was written: only the process ends.
type plainDisk struct{ dir string }

func (d plainDisk) path() string { return filepath.Join(d.dir, "data") }
func (d plainDisk) cut(kill func()) error {
	kill()
	return nil
}
func (plainDisk) remove() {}

// loopDisk is ext4 on a loop device. Its cut loses what was not synced.
type loopDisk struct{ image, mount, device string }

func newLoopDisk(dir string) (*loopDisk, error) {
	d := &loopDisk{image: filepath.Join(dir, "image"), mount: filepath.Join(dir, "mount")}
	if err := os.Mkdir(d.mount, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(4 << 30); err != nil {
		return nil, err
	}
	if _, err := command("mkfs.ext4", "-q", d.image); err != nil {
		return nil, err
	}
	if d.device, err = command("losetup", "--find", "--show", d.image); err != nil {
		return nil, err
	}
	if _, err = command("mount", d.device, d.mount); err != nil {
		d.remove()
		return nil, err
	}
	return d, nil
}

func (d *loopDisk) path() string { return filepath.Join(d.mount, "data") }

// cut shuts the file system down without flushing anything, even its own
// journal, and mounts it again, which replays that journal.
func (d *loopDisk) cut(kill func()) error {
	if err := shutdown(d.mount); err != nil {
		kill()
		return err
	}
	kill()
	if _, err := command("umount", d.mount); err != nil {
		return err
	}
	_, err := command("mount", d.device, d.mount)
	return err
}

func (d *loopDisk) remove() {
	command("umount", d.mount)
	command("losetup", "--detach", d.device)
}

// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
const (
	ioctlShutdown = 0x8004587d
	noLogFlush    = 2
)

func shutdown(mount string) error {
	fd, err := unix.Open(mount, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetPointerInt(fd, ioctlShutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut the file system of %s down: %w", mount, err)
	}
	return nil
}

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
