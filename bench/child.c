/* A stdio MCP server that costs next to nothing, so that what is measured is the bridge in front of it.

   It does not parse JSON. It looks for the few names that it knows at both ends of a line, which is where every bridge
   writes them, and so a request of one megabyte costs it a read. bench/child.py does the same, slower.

   tools/call of  echo {"text"}          answers 100 bytes, however long the text is
                  give {"bytes"}         answers a text of so many bytes of JSON
                  notes {"count","bytes"}  sends so many progress notifications first, each with a message of that size
*/
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENDS 1024 /* bytes at both ends of a line that are looked at */
#define LINE 80
#define FLUSHED (1 << 20) /* bytes that wait for one write at most */

static char *out;
static size_t out_size, out_room;

static void die(const char *why) {
    perror(why);
    exit(1);
}

static void flush_out(void) {
    for (size_t done = 0; done < out_size;) {
        ssize_t n = write(1, out + done, out_size - done);
        if (n < 0) die("write");
        done += (size_t)n;
    }
    out_size = 0;
}

static void put(const char *data, size_t size) {
    if (out_size + size > out_room) {
        out_room = (out_size + size) * 2;
        if (!(out = realloc(out, out_room))) die("realloc");
    }
    memcpy(out + out_size, data, size);
    out_size += size;
}

static void put_text(const char *text) { put(text, strlen(text)); }

/* Text as tools give it: lines of 80 characters, with the escape of their newline. */
static void put_filler(size_t size) {
    static char block[LINE * 800];
    if (!block[0])
        for (size_t i = 0; i < sizeof block; i++)
            block[i] = i % LINE == LINE - 2 ? '\\' : i % LINE == LINE - 1 ? 'n' : (char)('a' + i % LINE % 26);
    for (; size >= sizeof block; size -= sizeof block) {
        put(block, sizeof block);
        if (out_size >= FLUSHED) flush_out();
    }
    bool cut = size % LINE == LINE - 1; /* behind a backslash */
    put(block, size - cut);
    if (cut) put("z", 1);
}

static const char *find(const char *line, size_t size, const char *name) {
    size_t head = size < ENDS ? size : ENDS;
    const char *found = memmem(line, head, name, strlen(name));
    if (!found && size > ENDS) found = memmem(line + size - ENDS, ENDS, name, strlen(name));
    return found ? found + strlen(name) : NULL;
}

/* The value behind a name: a number, or a string with its quotes. */
static bool value(const char *line, size_t size, const char *name, const char **start, size_t *length) {
    const char *p = find(line, size, name), *end = line + size;
    if (!p) return false;
    while (p < end && *p == ' ') p++;
    *start = p;
    if (p < end && *p == '"')
        for (p++; p < end && *p != '"'; p++);
    else
        for (; p < end && *p != ',' && *p != '}'; p++);
    *length = (size_t)(p - *start) + (p < end && *p == '"');
    return true;
}

static long number(const char *line, size_t size, const char *name) {
    const char *start;
    size_t length;
    return value(line, size, name, &start, &length) ? atol(start) : 0;
}

static void put_result(const char *id, size_t id_size, const char *result) {
    put_text("{\"jsonrpc\":\"2.0\",\"id\":");
    put(id, id_size);
    put_text(",\"result\":");
    put_text(result);
}

static void call(const char *line, size_t size, const char *id, size_t id_size) {
    if (find(line, size, "\"give\"")) {
        put_result(id, id_size, "{\"content\":[{\"type\":\"text\",\"text\":\"");
        put_filler((size_t)number(line, size, "\"bytes\":"));
        put_text("\"}]}}\n");
        return;
    }
    if (find(line, size, "\"notes\"")) {
        const char *token = "0";
        size_t token_size = 1;
        value(line, size, "\"progressToken\":", &token, &token_size);
        long count = number(line, size, "\"count\":"), bytes = number(line, size, "\"bytes\":");
        for (long i = 1; i <= count; i++) {
            char head[64];
            put_text("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":");
            put(token, token_size);
            snprintf(head, sizeof head, ",\"progress\":%ld,\"message\":\"", i);
            put_text(head);
            put_filler((size_t)bytes);
            put_text("\"}}\n");
        }
    }
    put_result(id, id_size, "{\"content\":[{\"type\":\"text\",\"text\":\"hello from the child\"}]}}\n");
}

#define TOOL(name) "{\"name\":\"" name "\",\"description\":\"a tool\",\"inputSchema\":{\"type\":\"object\"}}"

static void answer(const char *line, size_t size) {
    const char *id, *version = "\"2025-06-18\"";
    size_t id_size, version_size = strlen(version);
    if (!value(line, size, "\"id\":", &id, &id_size)) return;
    if (find(line, size, "\"tools/call\"")) {
        call(line, size, id, id_size);
    } else if (find(line, size, "\"initialize\"")) {
        value(line, size, "\"protocolVersion\":", &version, &version_size);
        put_result(id, id_size, "{\"protocolVersion\":");
        put(version, version_size);
        put_text(",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"}}}\n");
    } else if (find(line, size, "\"server/discover\"")) {
        put_result(id, id_size, "{\"resultType\":\"complete\",\"supportedVersions\":[\"2026-07-28\"],"
                   "\"capabilities\":{\"tools\":{}},\"ttlMs\":0,\"cacheScope\":\"private\"}}\n");
    } else if (find(line, size, "\"tools/list\"")) {
        put_result(id, id_size, "{\"resultType\":\"complete\",\"ttlMs\":0,\"cacheScope\":\"private\",\"tools\":["
                   TOOL("echo") "," TOOL("give") "," TOOL("notes") "]}}\n");
    } else {
        put_result(id, id_size, "{}}\n");
    }
}

int main(void) {
    size_t room = 1 << 20, filled = 0, seen = 0;
    char *buffer = malloc(room);
    for (;;) {
        if (filled == room && !(buffer = realloc(buffer, room *= 2))) die("realloc");
        ssize_t n = read(0, buffer + filled, room - filled);
        if (n < 0) die("read");
        if (n == 0) return 0;
        filled += (size_t)n;
        char *start = buffer, *end;
        while ((end = memchr(buffer + seen, '\n', filled - seen))) {
            answer(start, (size_t)(end - start));
            start = end + 1;
            seen = (size_t)(start - buffer);
        }
        filled -= (size_t)(start - buffer);
        memmove(buffer, start, filled);
        seen = filled;
        flush_out();
    }
}
