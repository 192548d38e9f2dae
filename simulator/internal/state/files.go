// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// copyFiles copies a folder with all that is in it. Holes stay holes.
func copyFiles(from, to string) error {
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // deleted meanwhile
			}
			return err
		}
		relative, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			err = copyFile(file, target)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		return nil
	})
}

const (
	seekData = 3
	seekHole = 4
)

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	err = copyData(source, target, info.Size())
	if closing := target.Close(); err == nil {
		err = closing
	}
	return err
}

func copyData(source, target *os.File, size int64) error {
	if err := target.Truncate(size); err != nil {
		return err
	}
	for at := int64(0); at < size; {
		begin, err := source.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) { // the rest is a hole
			return nil
		}
		end := size
		if err != nil { // a file system that knows no holes
			begin = at
		} else if end, err = source.Seek(begin, seekHole); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(target, begin), io.NewSectionReader(source, begin, end-begin)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// moveFiles moves what is in a folder into another one on the same file system.
func moveFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.Rename(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// empty removes what is in a folder.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if failed := os.RemoveAll(filepath.Join(dir, entry.Name())); err == nil {
			err = failed
		}
	}
	return err
}

// replace puts a file in place in one step.
func replace(file string, text []byte) error {
	temporary := file + ".new"
	if err := os.WriteFile(temporary, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
