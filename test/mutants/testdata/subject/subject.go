// Package subject has one of each point of change.
package subject

import (
	"errors"
	"fmt"
	"log"
)

// Kind says what it is.
type Kind int

func (k Kind) String() string {
	if k == 0 {
		return "none"
	}
	return fmt.Sprint(int(k) + 1)
}

// Every has the other points; nothing tests it.
func Every(values []int, strict bool) (sum int, err error) {
	buffer := make([]int, 0, 8)
	for i := 0; i < len(values); i++ {
		if values[i] < 0 && strict {
			return 0, errors.New("below 0")
		}
		if !strict {
			continue
		}
		buffer = append(buffer, values[i])
		sum += 2 * values[i]
	}
	if sum == 0 {
		log.Println("nothing", 0)
	}
	if sum < 0 {
		panic(fmt.Sprint("a sum below ", 0))
	}
	switch len(buffer) {
	case 1:
		return sum, nil
	}
	note(fmt.Sprint("a"+"b"), true)
	return sum - 1, err
}

var notes []string

func note(text string, keep bool) {
	if keep {
		notes = append(notes, text)
		return
	}
	_ = text
}
