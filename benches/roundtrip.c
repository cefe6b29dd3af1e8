/* How long a byte takes to a peer and back, in nanoseconds: the median of many.
 *
 *     roundtrip PORT              serves at all addresses, for ever
 *     roundtrip ADDRESS PORT      asks; IPv4
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WARM = 500, ROUNDS = 5000 };

static int compare(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int count, char **words)
{
	int on = 1, line = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(words[count - 1])) };
	static double taken[ROUNDS];
	char byte = 0;

	if (count == 2) {
		setsockopt(line, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(line, (void *)&address, sizeof address) || listen(line, 9))
			return 1;
		for (int peer; (peer = accept(line, NULL, NULL)) >= 0; close(peer)) {
			setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			while (read(peer, &byte, 1) == 1 && write(peer, &byte, 1) == 1)
				;
		}
		return 1;
	}
	inet_pton(AF_INET, words[1], &address.sin_addr);
	if (connect(line, (void *)&address, sizeof address))
		return 1;
	setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	for (int round = -WARM; round < ROUNDS; round++) {
		double start = now();
		if (write(line, &byte, 1) != 1 || read(line, &byte, 1) != 1)
			return 1;
		if (round >= 0)
			taken[round] = now() - start;
	}
	qsort(taken, ROUNDS, sizeof *taken, compare);
	printf("%.0f\n", taken[ROUNDS / 2]);
	return 0;
}
