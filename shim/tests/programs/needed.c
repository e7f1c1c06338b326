/* What the plug-in links to. */
int needed(void)
{
    return 0;
}
