/* Loads a plug-in as PHP does, by a name that only this program's RUNPATH makes
 * known. */
#include "probe.h"
#include <dlfcn.h>

static void use(const char *way, void *plugin)
{
    if (!plugin) {
        printf("%s %s\n", way, dlerror());
        return;
    }
    int (*get)(int) = (int (*)(int))dlsym(plugin, "plugin_semget");
    int id = get(KEY);
    printf("%s %s\n", way, id < 0 ? strerrorname_np(errno) : id >> 30 ? "distributed" : "local");
    fflush(stdout);
}

int main(void)
{
    void *plugin = dlopen("plugin.so", RTLD_NOW | RTLD_DEEPBIND);
    use("dlopen", plugin);
    if (plugin) dlclose(plugin);
    use("dlmopen", dlmopen(LM_ID_BASE, "plugin.so", RTLD_LAZY | RTLD_DEEPBIND));
    printf("absent %d\n", dlopen("no such plugin", RTLD_LAZY | RTLD_DEEPBIND) == NULL);
    void *itself = dlopen(NULL, RTLD_NOW);
    printf("itself %d\n", itself && dlsym(itself, "semget") != NULL);
    return 0;
}
