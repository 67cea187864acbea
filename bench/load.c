/* A load generator: keep-alive connections that go through a script of requests each, one in flight per connection.

   load PLAN. bench/load.py writes the plan and reads what this prints; bench/loader.py does the same, slower:

     port seconds warmup interval least
     connection <number of requests>        one block per connection
     request <bytes>                        each followed by the bytes themselves

   ID in a request becomes a number of its own, which the answer must hold; SESSION becomes the session id that an
   answer on this connection gave last. Of an answer with an id, status, id and size ("least" bytes of body) are
   checked, and that it is no error; of others the status. The first wrong one ends the run with exit code 1.

   What is timed is one way through the script. Counting begins after "warmup" seconds (and the line "counting"), and
   ends after "seconds" more, with at least one way counted, or at SIGTERM.

   Without an "interval" each connection begins anew as soon as it can. With one, a way begins every "interval" seconds
   on whichever connection is free, and is timed from when it should have begun: a server that stands still for a second
   is seen by everything that was due meanwhile. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ID "1000000000"
#define SESSION "@session@"
#define HEAD_MAX 16384
#define LAST_ANSWERS 5.0 /* seconds that calls get which are under way at the end */
#define ENDS 1024 /* bytes at both ends of a body that are kept to be checked */

typedef struct {
    char *text; /* as in the plan; the id is written into it */
    size_t size;
    char *id;
    char *session;
} request;

typedef struct {
    int fd, index;
    request *script;
    int steps, step;
    long sent_ids;
    char session[256];
    const char *sending; /* what of the request is still to be written */
    size_t sending_size;
    char *filled; /* a request with the session in it */
    double begun;
    enum { HEAD, BODY, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER } state;
    char head[HEAD_MAX], first[ENDS + 1], last[ENDS + 1], digits[20];
    size_t head_size, line_size, last_size, left, body;
    int status;
    bool watched;
} connection;

static int poller, timer, port;
static double seconds, warmup, interval;
static size_t least;
static double *times;
static size_t counted, room;
static double counting_since = -1, ends_at;
static connection *all, **idle;
static int connections, under_way, idles; /* those that wait for an answer, and those that wait for their time */
static double next_due;
static volatile sig_atomic_t told_to_end;

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double processor_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_signal(int number) {
    (void)number;
    told_to_end = 1;
}

/* ---- requests out ---- */

static void watch(connection *c, bool writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? (unsigned)EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    c->watched = writing;
}

static void go_on_sending(connection *c) {
    while (c->sending_size) {
        ssize_t n = send(c->fd, c->sending, c->sending_size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n < 0) fail("sending: %s", strerror(errno));
        c->sending += n;
        c->sending_size -= (size_t)n;
    }
    if (c->watched != (c->sending_size > 0)) watch(c, c->sending_size > 0);
}

static void send_request(connection *c) {
    request *r = &c->script[c->step];
    if (r->id) {
        sprintf(c->digits, "%ld", 1000000000L + c->index * 10000000L + c->sent_ids++ % 10000000L);
        memcpy(r->id, c->digits, strlen(ID));
    }
    c->sending = r->text;
    c->sending_size = r->size;
    if (r->session) {
        size_t before = (size_t)(r->session - r->text), named = strlen(c->session), skipped = strlen(SESSION);
        free(c->filled);
        if (!(c->filled = malloc(r->size + named))) fail("no memory");
        memcpy(c->filled, r->text, before);
        memcpy(c->filled + before, c->session, named);
        memcpy(c->filled + before + named, r->session + skipped, r->size - before - skipped);
        c->sending = c->filled;
        c->sending_size = r->size - skipped + named;
    }
    c->state = HEAD;
    c->head_size = c->line_size = c->last_size = c->body = 0;
    go_on_sending(c);
}

static void begin(connection *c, double t) {
    under_way++;
    c->begun = t;
    send_request(c);
}

static void begin_what_is_due(double t) {
    for (; idles && t >= next_due; next_due += interval) begin(idle[--idles], next_due);
}

/* ---- answers in ---- */

static bool is_over(double t) { return told_to_end || (counting_since >= 0 && t >= ends_at && counted); }

static void check(connection *c) {
    request *r = &c->script[c->step];
    c->first[c->body < ENDS ? c->body : ENDS] = c->last[c->last_size] = 0;
    if (r->id ? c->status != 200 : c->status / 100 != 2) fail("status %d: %.400s", c->status, c->first);
    if (!r->id) return;
    if (!strstr(c->first, c->digits) && !strstr(c->last, c->digits))
        fail("an answer without its id %s: %.400s", c->digits, c->first);
    if (strstr(c->first, "\"error\"") || strstr(c->last, "\"isError\":true")) fail("an error: %.400s", c->first);
    if (c->body < least) fail("an answer of %zu bytes: %.400s", c->body, c->first);
}

static void answered(connection *c) {
    double t;
    check(c);
    if (++c->step < c->steps) {
        send_request(c);
        return;
    }
    c->step = 0;
    t = now();
    if (counting_since >= 0) {
        if (counted == room && !(times = realloc(times, (room = room * 2 + 65536) * sizeof *times))) fail("no memory");
        times[counted++] = t - c->begun;
    }
    under_way--;
    if (interval > 0) idle[idles++] = c;
    else if (!is_over(t)) begin(c, t);
}

static void body(connection *c, const char *data, size_t size) {
    size_t kept;
    if (c->body < ENDS) memcpy(c->first + c->body, data, size < ENDS - c->body ? size : ENDS - c->body);
    c->body += size;
    if (size > ENDS) {
        data += size - ENDS;
        size = ENDS;
    }
    kept = c->last_size + size > ENDS ? ENDS - size : c->last_size;
    memmove(c->last, c->last + c->last_size - kept, kept);
    memcpy(c->last + kept, data, size);
    c->last_size = kept + size;
}

static void head(connection *c) {
    char *line = c->head, *end;
    bool chunked = false;
    if (sscanf(c->head, "HTTP/1.1 %d", &c->status) != 1) fail("no HTTP/1.1 answer: %.200s", c->head);
    c->left = 0;
    while ((end = strstr(line, "\r\n")) && end != line) {
        *end = 0;
        if (!strncasecmp(line, "content-length:", 15)) c->left = strtoul(line + 15, NULL, 10);
        if (!strncasecmp(line, "transfer-encoding: chunked", 26)) chunked = true;
        if (!strncasecmp(line, "mcp-session-id:", 15)) sscanf(line + 15, " %255s", c->session);
        line = end + 2;
    }
    c->state = chunked ? CHUNK_SIZE : BODY;
}

/* Takes one byte of a line; true when the line is complete. */
static bool line_byte(connection *c, char byte) {
    if (byte == '\n') return true;
    if (c->line_size < sizeof c->digits) c->line_size++;
    if (c->state == CHUNK_SIZE) {
        int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10 : -1;
        if (digit >= 0) c->left = c->left * 16 + (size_t)digit;
    }
    return false;
}

static void received(connection *c, const char *data, size_t size) {
    const char *end = data + size;
    while (data < end) {
        size_t n = (size_t)(end - data);
        if (c->state == HEAD) {
            size_t before = c->head_size < 3 ? 0 : c->head_size - 3;
            char *stop;
            if (n > HEAD_MAX - 1 - c->head_size) n = HEAD_MAX - 1 - c->head_size;
            if (!n) fail("a head of over %d bytes", HEAD_MAX);
            memcpy(c->head + c->head_size, data, n);
            c->head[c->head_size + n] = 0;
            stop = strstr(c->head + before, "\r\n\r\n");
            if (stop) n = (size_t)(stop + 4 - c->head) - c->head_size;
            c->head_size += n;
            data += n;
            if (!stop) continue;
            c->head[c->head_size] = 0;
            head(c);
            if (c->state == BODY && !c->left) answered(c);
        } else if (c->state == BODY || c->state == CHUNK) {
            if (n > c->left) n = c->left;
            body(c, data, n);
            data += n;
            c->left -= n;
            if (c->left) continue;
            if (c->state == BODY) answered(c);
            else c->state = CHUNK_END;
        } else if (line_byte(c, *data++)) {
            bool empty = c->line_size <= 1; /* the carriage return */
            c->line_size = 0;
            if (c->state == CHUNK_END) c->state = CHUNK_SIZE;
            else if (c->state == CHUNK_SIZE) c->state = c->left ? CHUNK : TRAILER;
            else if (empty) answered(c);
        }
    }
}

/* ---- the run ---- */

static void read_plan(const char *path) {
    FILE *plan = fopen(path, "rb");
    int steps;
    if (!plan || fscanf(plan, "%d %lf %lf %lf %zu\n", &port, &seconds, &warmup, &interval, &least) != 5)
        fail("%s: no plan", path);
    for (; fscanf(plan, "connection %d\n", &steps) == 1; connections++) {
        connection *c;
        if (!(all = realloc(all, (size_t)(connections + 1) * sizeof *all))) fail("no memory");
        c = &all[connections];
        memset(c, 0, sizeof *c);
        c->index = connections;
        c->steps = steps;
        c->script = calloc((size_t)steps, sizeof *c->script);
        for (int i = 0; i < steps; i++) {
            request *r = &c->script[i];
            if (fscanf(plan, "request %zu", &r->size) != 1 || fgetc(plan) != '\n') fail("%s: no request", path);
            if (!(r->text = malloc(r->size))) fail("no memory");
            if (fread(r->text, 1, r->size, plan) != r->size || fgetc(plan) != '\n') fail("%s: a short request", path);
            r->id = memmem(r->text, r->size, ID, strlen(ID));
            r->session = memmem(r->text, r->size, SESSION, strlen(SESSION));
        }
    }
    fclose(plan);
    if (!(idle = calloc((size_t)connections + 1, sizeof *idle))) fail("no memory");
}

static void open_connection(connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) fail("connecting: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at(double share) {
    size_t i = (size_t)((double)counted * share);
    return counted ? times[i < counted ? i : counted - 1] * 1000 : 0;
}

static void start_timer(void) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    long nanoseconds = (long)(interval * 1e9);
    struct timespec each = {nanoseconds / 1000000000L, nanoseconds % 1000000000L};
    struct itimerspec times = {.it_interval = each, .it_value = each};
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, 0, &times, NULL)) fail("timer: %s", strerror(errno));
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
}

/* Waits for what the connections say, and takes it in. */
static void turn(void) {
    static char data[1 << 18];
    struct epoll_event events[64];
    int ready = epoll_wait(poller, events, 64, 10);
    for (int i = 0; i < ready; i++) {
        connection *c = events[i].data.ptr;
        if (!c) { /* the timer */
            unsigned long ticks;
            if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) fail("timer: %s", strerror(errno));
            continue;
        }
        if (events[i].events & EPOLLOUT) go_on_sending(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            ssize_t n = recv(c->fd, data, sizeof data, 0);
            if (n == 0) fail("the server closed a connection");
            if (n < 0 && errno != EAGAIN && errno != EINTR) fail("receiving: %s", strerror(errno));
            if (n > 0) received(c, data, (size_t)n);
        }
    }
}

int main(int argc, char **argv) {
    double begun, spent = 0, t;
    if (argc != 2) fail("usage: load PLAN");
    signal(SIGTERM, on_signal);
    read_plan(argv[1]);
    poller = epoll_create1(0);
    for (int i = 0; i < connections; i++) open_connection(&all[i]);
    begun = next_due = now();
    if (interval > 0) start_timer();
    for (int i = 0; i < connections; i++) {
        if (interval > 0) idle[idles++] = &all[i];
        else begin(&all[i], begun);
    }
    while (!is_over(t = now())) {
        if (counting_since < 0 && t >= begun + warmup) {
            counting_since = t;
            ends_at = t + seconds;
            spent = processor_time();
            puts("counting");
            fflush(stdout);
        }
        if (interval > 0) begin_what_is_due(t);
        turn();
    }
    spent = processor_time() - spent;
    qsort(times, counted, sizeof *times, by_size);
    printf("{\"calls\":%zu,\"seconds\":%.6f,\"cpu\":%.6f,\"p50\":%.4f,\"p99\":%.4f,\"worst\":%.4f}\n", counted,
           t - counting_since, spent, at(0.5), at(0.99), at(1));
    fflush(stdout);
    while (under_way > 0 && now() < t + LAST_ANSWERS) turn(); /* nobody hangs up on a call */
    return 0;
}
