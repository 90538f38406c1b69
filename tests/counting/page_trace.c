/* Notes which pages of watched memory are read and which are written, for test_bytes.py.

   Between start() and stop() watched pages are protected. The first access to each is a fault, whose
   error code says whether it is a write; then the page is opened as far as that access needs. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, REGIONS = 16, READ = 1, WRITTEN = 2 };

static struct region {
    char *start;
    size_t pages;
    unsigned char *seen; /* READ and WRITTEN of each page */
} regions[REGIONS];
static size_t count;
static struct sigaction before;

static void note(int number, siginfo_t *info, void *context)
{
    char *address = info->si_addr;
    int is_write = (((ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] >> 1) & 1;

    for (struct region *r = regions; r < regions + count; r++) {
        if (address < r->start || address >= r->start + r->pages * PAGE)
            continue;
        size_t page = (size_t)(address - r->start) / PAGE;
        r->seen[page] |= is_write ? WRITTEN : READ;
        mprotect(r->start + page * PAGE, PAGE, is_write ? PROT_READ | PROT_WRITE : PROT_READ);
        return;
    }
    sigaction(number, &before, NULL); /* not ours: let it fault again as it would without us */
}

int watch(char *start, size_t size)
{
    if (count == REGIONS || (uintptr_t)start % PAGE || size % PAGE)
        return -1;
    regions[count++] = (struct region){start, size / PAGE, calloc(size / PAGE, 1)};
    return 0;
}

void start(void)
{
    struct sigaction ours = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &ours, &before);
    for (struct region *r = regions; r < regions + count; r++)
        mprotect(r->start, r->pages * PAGE, PROT_NONE);
}

/* The number of pages read and of pages written; forgets what was watched. */
void stop(size_t pages[2])
{
    pages[0] = pages[1] = 0;
    for (struct region *r = regions; r < regions + count; r++) {
        mprotect(r->start, r->pages * PAGE, PROT_READ | PROT_WRITE);
        for (size_t page = 0; page < r->pages; page++) {
            pages[0] += (r->seen[page] & READ) != 0;
            pages[1] += (r->seen[page] & WRITTEN) != 0;
        }
        free(r->seen);
    }
    count = 0;
    sigaction(SIGSEGV, &before, NULL);
}
