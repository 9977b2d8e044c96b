#pragma once
#include "rd.h"

typedef int64_t rd_ts_t;

/* rd_clock is a monotonic clock, in microseconds. */
static RD_UNUSED rd_ts_t rd_clock(void) {
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (rd_ts_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
