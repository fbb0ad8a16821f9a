/* Judges an answer to a problem of countdown: + - * between the digits, each used once, so that the
 * target is the value. Reads a line of JSON with "prompt", as 3568=24:, and "said"; prints 1 or 0. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *at;
static int wrong, used;
static char digits[64];

static long atom(void) {
    if (*at < '0' || *at > '9' || used > 60) {
        wrong = 1;
        return 0;
    }
    digits[used++] = *at;
    return *at++ - '0';
}

static long product(void) {
    long value = atom();
    while (!wrong && *at == '*') {
        at++;
        value *= atom();
    }
    return value;
}

static long sum(void) {
    long value = product();
    while (!wrong && (*at == '+' || *at == '-'))
        value += *at++ == '+' ? product() : -product();
    return value;
}

/* Whether a digit is there more often, or less often, than it is used. */
static int left(const char *given, long length) {
    int count[10] = {0}, odd = 0;
    for (long i = 0; i < length; i++)
        count[given[i] - '0']++;
    for (int i = 0; i < used; i++)
        count[digits[i] - '0']--;
    for (int i = 0; i < 10; i++)
        odd |= count[i];
    return odd;
}

static const char *field(const char *line, const char *name) {
    const char *found = strstr(line, name);
    return found ? found + strlen(name) : "";
}

int main(void) {
    static char line[1 << 16];
    if (!fgets(line, sizeof line, stdin))
        return 2;
    const char *prompt = field(line, "\"prompt\": \"");
    const char *given = prompt;
    while (*prompt >= '0' && *prompt <= '9')
        prompt++;
    long target = *prompt == '=' ? strtol(prompt + 1, 0, 10) : -1;
    long length = prompt - given;
    at = field(line, "\"said\": \"");
    while (*at == ' ')
        at++;
    long value = sum();
    while (*at == ' ')
        at++;
    printf("%d\n", !wrong && *at == '"' && value == target && !left(given, length));
    return 0;
}
