package http

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/polylog-mq/polylog/session"
)

// statuses are what the broker's errors become, the first that matches.
var statuses = []struct {
	err    error
	status int
}{
	{session.ErrUnauthorized, http.StatusForbidden},
	{session.ErrNotFound, http.StatusNotFound},
	{session.ErrTooLarge, http.StatusRequestEntityTooLarge},
	{session.ErrBadSelector, http.StatusUnprocessableEntity},
	{session.ErrInvalid, http.StatusBadRequest},
	{session.ErrUnsupported, http.StatusUnprocessableEntity},
	{session.ErrExists, http.StatusConflict},
	{session.ErrWrongKind, http.StatusConflict},
	{session.ErrConflict, http.StatusConflict},
	{session.ErrPaused, http.StatusServiceUnavailable},
	{session.ErrQueueFull, http.StatusTooManyRequests},
	{session.ErrBusy, http.StatusTooManyRequests},
	{session.ErrShuttingDown, http.StatusServiceUnavailable},
	{context.Canceled, 499}, // nobody reads it
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, err error) {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			problem(w, s.status, err.Error())
			return
		}
	}
	problem(w, http.StatusInternalServerError, err.Error())
}

// retryAfter is told with what may be asked again, in seconds.
const retryAfter = 1

// problem answers with problem details: RFC 9457.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	title := http.StatusText(status)
	if title == "" {
		title = "Client Closed Request"
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{title, status, detail})
}

// reply answers with JSON.
func reply(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return errors.Join(errAnswered, err)
	}
	return nil
}
