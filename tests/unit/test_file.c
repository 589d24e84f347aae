/* Files: mappings, exact reads and writes, whole reads with a cap, atomic replacement. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/file.h"
#include "support/unit.h"

static char dir[64];

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static int teardown(void **state)
{
    unlink(path_of("a"));
    unlink(path_of("empty"));
    return rmdir(dir);
}

static int entries(void)
{
    DIR *d = opendir(dir);
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void replace_writes_all_or_nothing(void **state)
{
    char *bytes;
    size_t n;
    struct stat info;
    assert_int_equal(file_replace(path_of("a"), "first", 5, 0600, NULL), SLUICE_OK);
    assert_int_equal(file_replace(path_of("a"), "second!", 7, 0600, NULL), SLUICE_OK);
    assert_int_equal(entries(), 1);
    assert_int_equal(stat(path_of("a"), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(file_read_all(path_of("a"), 100, &bytes, &n, NULL), SLUICE_OK);
    assert_int_equal(n, 7);
    assert_string_equal(bytes, "second!");
    free(bytes);
}

static void replace_into_a_missing_folder_says_so(void **state)
{
    struct sluice_error err;
    assert_int_equal(file_replace(path_of("no/such"), "x", 1, 0600, &err), SLUICE_ERR_IO);
    assert_non_null(strstr(err.message, "no/such"));
}

static void read_all_obeys_its_cap(void **state)
{
    struct sluice_error err;
    char *bytes;
    size_t n;
    assert_int_equal(file_read_all(path_of("a"), 3, &bytes, &n, &err), SLUICE_ERR_LIMIT);
    assert_null(bytes);
    assert_int_equal(file_read_all(path_of("missing"), 3, &bytes, &n, &err), SLUICE_ERR_IO);
    assert_non_null(strstr(err.message, "missing"));
}

static void exact_reads_tell_where_the_file_ends(void **state)
{
    struct sluice_error err;
    char bytes[8];
    int fd = open(path_of("a"), O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(file_read_exact(fd, bytes, 3, 2, &err), SLUICE_OK);
    assert_memory_equal(bytes, "con", 3);
    assert_int_equal(file_read_exact(fd, bytes, 8, 2, &err), SLUICE_ERR_IO);
    assert_int_equal(err.position, 7);
    assert_non_null(strstr(err.message, "expected 8 bytes at offset 2, found 5"));
    assert_int_equal(file_write_exact(fd, "XY", 2, 1, &err), SLUICE_OK);
    assert_int_equal(file_read_exact(fd, bytes, 3, 0, &err), SLUICE_OK);
    assert_memory_equal(bytes, "sXY", 3);
    close(fd);
    assert_int_equal(file_read_exact(fd, bytes, 1, 0, &err), SLUICE_ERR_IO);
    assert_int_equal(file_write_exact(fd, bytes, 1, 0, &err), SLUICE_ERR_IO);
}

static void maps_are_whole_files(void **state)
{
    struct sluice_error err;
    struct file_map m;
    assert_int_equal(file_map_open(path_of("a"), &m, &err), SLUICE_OK);
    assert_int_equal(m.size, 7);
    assert_memory_equal(m.bytes, "sXYond!", 7);
    file_map_close(&m);
    file_map_close(&m);
    assert_int_equal(file_replace(path_of("empty"), "", 0, 0600, &err), SLUICE_OK);
    assert_int_equal(file_map_open(path_of("empty"), &m, &err), SLUICE_OK);
    assert_null(m.bytes);
    assert_int_equal(file_map_open(dir, &m, &err), SLUICE_ERR_IO);
    assert_non_null(strstr(err.message, "regular file"));
    assert_int_equal(file_map_open(path_of("missing"), &m, &err), SLUICE_ERR_IO);
}

/* Loading reads and changes nothing, whatever part is asked for. */
static void parts_of_a_mapping_are_loaded(void **state)
{
    struct file_map map;
    static char bytes[3 * 4096 + 5];
    memset(bytes, 7, sizeof bytes);
    assert_int_equal(file_replace(path_of("a"), bytes, sizeof bytes, 0600, NULL), SLUICE_OK);
    assert_int_equal(file_map_open(path_of("a"), &map, NULL), SLUICE_OK);
    file_map_load(&map, 0, map.size);
    file_map_load(&map, 4097, 1);
    file_map_load(&map, map.size - 1, 1000);
    file_map_load(&map, map.size, 1);
    file_map_load(&map, 1, UINT64_MAX);
    assert_memory_equal(map.bytes, bytes, sizeof bytes);
    file_map_close(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replace_writes_all_or_nothing),
        cmocka_unit_test(replace_into_a_missing_folder_says_so),
        cmocka_unit_test(read_all_obeys_its_cap),
        cmocka_unit_test(exact_reads_tell_where_the_file_ends),
        cmocka_unit_test(maps_are_whole_files),
        cmocka_unit_test(parts_of_a_mapping_are_loaded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
